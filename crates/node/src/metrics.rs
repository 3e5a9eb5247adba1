//! Metrics of given vectors: nearest neighbours, retrieval, fidelity; and vectors out of a file. Each on a thread of its own.

use std::path::PathBuf;

use napi::bindgen_prelude::{Float32Array, Float64Array, PromiseRaw, Uint32Array};
use napi::{Env, Result};
use napi_derive::napi;
use rkd_core::input;
use rkd_core::metrics::{self, Labelled};
use rkd_core::options::FidelityOptions;
use rkd_core::vectors::{self, VectorOptions};
use rkd_core::{Code, Error};
use rkd_kernels::Team;

use crate::background::in_background;
use crate::error::BindingError;
use crate::reply::{BindingReply, value};

/// Vectors, row by row.
#[napi(object)]
pub struct BindingVectors {
    /// `[n, dimension]`.
    pub data: Float32Array,
    /// Numbers of a vector.
    pub dimension: u32,
    /// The class of each, where there are such.
    pub labels: Option<Uint32Array>,
}

/// The reply to `nearest`: either the first two or the last.
#[napi(object)]
pub struct BindingNearestReply {
    /// Of each query in turn its neighbours, nearest first: equally many of each.
    pub indices: Option<Uint32Array>,
    /// Their Euclidean distances.
    pub distances: Option<Float64Array>,
    /// Why there are none.
    pub error: Option<BindingError>,
}

/// The reply to `readVectors`: either the last or the others.
#[derive(Default)]
#[napi(object)]
pub struct BindingTableReply {
    /// The id of each vector.
    pub ids: Option<Vec<String>>,
    /// `[n, dimension]`.
    pub data: Option<Float32Array>,
    /// Numbers of a vector.
    pub dimension: Option<u32>,
    /// What a user should know, in full sentences.
    pub warnings: Option<Vec<String>>,
    /// The model that made them, where the file notes it.
    pub model: Option<String>,
    /// Its hash, where the file notes it.
    pub model_hash: Option<String>,
    /// Why there are none.
    pub error: Option<BindingError>,
}

/// Vectors that no other thread changes.
struct Owned {
    data: Vec<f32>,
    dimension: usize,
    labels: Vec<u32>,
}

impl From<BindingVectors> for Owned {
    fn from(given: BindingVectors) -> Self {
        let labels = given.labels.map_or_else(Vec::new, |labels| labels.to_vec());
        Owned { data: given.data.to_vec(), dimension: given.dimension as usize, labels }
    }
}

impl Owned {
    fn labelled(&self) -> Labelled<'_> {
        Labelled { vectors: &self.data, labels: &self.labels }
    }
}

/// The dimension of both sides, which must be one.
fn dimension_of(queries: Option<&Owned>, gallery: &Owned) -> rkd_core::Result<usize> {
    match queries {
        Some(queries) if queries.dimension != gallery.dimension => {
            Err(Error::new(Code::InvalidShape, "vectors of two dimensions cannot be compared")
                .with_subject("queries")
                .with_values(format!("{} numbers, as in the gallery", gallery.dimension), queries.dimension.to_string())
                .with_advice("embed both sides with the same model"))
        }
        _ => Ok(gallery.dimension),
    }
}

/// The `k` rows of the gallery that are nearest to each query, without queries to each of its own rows.
#[napi(
    ts_args_type = "queries: BindingVectors | null, gallery: BindingVectors, k: number, threads: number",
    ts_return_type = "Promise<BindingNearestReply>"
)]
pub fn nearest(
    env: &Env,
    queries: Option<BindingVectors>,
    gallery: BindingVectors,
    k: u32,
    threads: u32,
) -> Result<PromiseRaw<'_, BindingNearestReply>> {
    let (queries, gallery) = (queries.map(Owned::from), Owned::from(gallery));
    let work = move || {
        let d = dimension_of(queries.as_ref(), &gallery)?;
        let queries = queries.as_ref().map(|queries| &queries.data[..]);
        metrics::nearest(&Team::new(threads as usize), queries, &gallery.data, d, k as usize)
    };
    in_background(env, work, |found| match found {
        Ok(found) => {
            let indices: Vec<u32> = found.iter().flatten().map(|near| near.index).collect();
            let distances: Vec<f64> = found.iter().flatten().map(|near| near.squared.sqrt()).collect();
            BindingNearestReply { indices: Some(indices.into()), distances: Some(distances.into()), error: None }
        }
        Err(error) => BindingNearestReply { indices: None, distances: None, error: Some(error.into()) },
    })
}

/// How the queries find their classes in the gallery, without queries its own rows.
#[napi(
    ts_args_type = "queries: BindingVectors | null, gallery: BindingVectors, ks: readonly number[], threads: number",
    ts_return_type = "Promise<Reply<Retrieval>>"
)]
pub fn retrieval(
    env: &Env,
    queries: Option<BindingVectors>,
    gallery: BindingVectors,
    ks: Vec<u32>,
    threads: u32,
) -> Result<PromiseRaw<'_, BindingReply>> {
    let (queries, gallery) = (queries.map(Owned::from), Owned::from(gallery));
    let work = move || {
        let d = dimension_of(queries.as_ref(), &gallery)?;
        let ks: Vec<usize> = ks.into_iter().map(|k| k as usize).collect();
        let queries = queries.as_ref().map(Owned::labelled);
        metrics::retrieval_in(&Team::new(threads as usize), queries, gallery.labelled(), d, &ks)
    };
    in_background(env, work, BindingReply::from)
}

/// How well the student keeps the relations of the teacher.
#[napi(
    ts_args_type = "teacher: BindingVectors, student: BindingVectors, options: Json<FidelityOptions>",
    ts_return_type = "Promise<Reply<Fidelity>>"
)]
pub fn relation_fidelity(
    env: &Env,
    teacher: BindingVectors,
    student: BindingVectors,
    options: String,
) -> Result<PromiseRaw<'_, BindingReply>> {
    let (teacher, student) = (Owned::from(teacher), Owned::from(student));
    let work = move || {
        let (options, threads) = input::read::<FidelityOptions>("", &value(&options)?)?.resolve();
        let [n, m] = [&teacher, &student].map(|side| side.data.len() / side.dimension.max(1));
        if n != m {
            return Err(Error::new(Code::InvalidShape, "teacher and student have not one vector each for every item")
                .with_subject("student")
                .with_values(format!("{n} vectors, as of the teacher"), m.to_string()));
        }
        metrics::relation_fidelity(&Team::new(threads), &teacher.data, &student.data, n, &options)
    };
    in_background(env, work, BindingReply::from)
}

/// Reads stored vectors.
#[napi(
    ts_args_type = "path: string, options: Json<Partial<VectorOptions>>",
    ts_return_type = "Promise<BindingTableReply>"
)]
pub fn read_vectors(env: &Env, path: String, options: String) -> Result<PromiseRaw<'_, BindingTableReply>> {
    let folder = std::env::current_dir().ok();
    let work = move || {
        input::start_paths_at(folder);
        let mut options = input::read::<VectorOptions>("", &value(&options)?)?;
        options.ids = options.ids.map(input::absolute);
        vectors::read(&PathBuf::from(path), &options)
    };
    in_background(env, work, |table| match table {
        Ok(table) => {
            let (model, model_hash) = table.made_by.map_or((None, None), |by| (Some(by.model), by.hash));
            BindingTableReply {
                ids: Some(table.ids),
                data: Some(Float32Array::new(table.rows)),
                dimension: Some(table.dimension as u32),
                warnings: Some(table.warnings),
                model,
                model_hash,
                error: None,
            }
        }
        Err(error) => BindingTableReply { error: Some(error.into()), ..BindingTableReply::default() },
    })
}
