//! What runs a graph: rten, which is part of this program, or onnxruntime, a library of the user's.
//!
//! onnxruntime is faster on small convolutions and knows every operation; it is taken where its library is given or found,
//! else rten. rten replaces a cubic `Resize` by a linear one without a word, so such a graph is refused there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rten::{Model, ModelOptions, NodeId, RunOptions, Value, ValueView};
use rten_tensor::prelude::*;
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Number};
use super::input::InputForm;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The way out of what rten cannot do.
const GET_ONNXRUNTIME: &str = "install onnxruntime-node beside rkd, or name onnxruntime's library (--onnxruntime FILE)";

/// Which engine runs an ONNX model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// onnxruntime where its library is found, else rten.
    #[default]
    Auto,
    /// The engine inside this program.
    Rten,
    /// The library, or an error.
    Onnxruntime,
}

/// Images in the form that a graph takes.
pub enum Pixels {
    /// Floats, of the input's layout.
    Floats(Vec<f32>),
    /// Bytes, of the input's layout.
    Bytes(Vec<u8>),
}

/// A graph that is ready to run.
pub enum Engine {
    /// See the module.
    Rten(Box<Rten>),
    /// See the module.
    Onnxruntime(Onnxruntime),
}

impl EngineChoice {
    /// The name in plans and messages.
    pub fn name(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Rten => "rten",
            EngineChoice::Onnxruntime => "onnxruntime",
        }
    }
}

/// The engine that `choice` means for the tensor `output` of `graph`, never `Auto`, and the library where it is one.
/// `given`: the library that the user names.
///
/// # Errors
/// `ERR_NOT_FOUND` where onnxruntime is asked for and not there; `ERR_INVALID_OPTION` where it is asked for a tensor that it
/// does not give; `ERR_INVALID_ARTEFACT` for a graph that rten runs wrongly, where it would be rten's.
pub fn choose(
    graph: &Graph,
    output: &str,
    choice: EngineChoice,
    given: Option<&Path>,
) -> Result<(EngineChoice, Option<PathBuf>)> {
    let library = || given.map(Path::to_path_buf).or_else(library_of_environment).or_else(installed_library);
    // onnxruntime gives only what the graph calls an output.
    let outside = graph.outputs.iter().any(|tensor| tensor.name == output);
    match (choice, library()) {
        (EngineChoice::Onnxruntime, None) => Err(no_library()),
        (EngineChoice::Onnxruntime, Some(_)) if !outside => Err(inner_tensor(graph, output)),
        (EngineChoice::Onnxruntime, library) => Ok((choice, library)),
        (EngineChoice::Auto, Some(library)) if outside => Ok((EngineChoice::Onnxruntime, Some(library))),
        (EngineChoice::Auto | EngineChoice::Rten, _) => {
            check_operations(graph)?;
            Ok((EngineChoice::Rten, None))
        }
    }
}

impl Engine {
    /// Loads `graph` into the engine that [`choose`] has chosen, so that it gives the tensor `output`.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` for a graph that the engine cannot run, with the way out; `ERR_NOT_FOUND` where onnxruntime's
    /// library cannot be loaded.
    pub fn load(
        graph: &Graph,
        output: &str,
        choice: EngineChoice,
        library: Option<&Path>,
        threads: usize,
    ) -> Result<Engine> {
        match library {
            Some(library) if choice == EngineChoice::Onnxruntime => {
                Onnxruntime::load(graph, output, library, threads).map(Engine::Onnxruntime)
            }
            _ => Rten::load(graph, output, threads).map(|rten| Engine::Rten(Box::new(rten))),
        }
    }

    /// The engine's name, with its version or file.
    pub fn name(&self) -> String {
        match self {
            Engine::Rten(_) => "rten".to_string(),
            Engine::Onnxruntime(engine) => format!("onnxruntime ({})", engine.library.display()),
        }
    }

    /// The output for images of `shape`, four axes.
    pub fn run(&self, input: &InputForm, pixels: Pixels, shape: [usize; 4]) -> Result<HostTensor> {
        match self {
            Engine::Rten(engine) => engine.run(&pixels, shape),
            Engine::Onnxruntime(engine) => engine.run(input, pixels, shape),
        }
    }
}

/// The engine inside.
pub struct Rten {
    model: Model,
    input: NodeId,
    output: NodeId,
    threads: Arc<rten::ThreadPool>,
    path: PathBuf,
}

impl Rten {
    fn load(graph: &Graph, output: &str, threads: usize) -> Result<Rten> {
        let path = graph.path.clone();
        let refused = |what: String| {
            Error::new(Code::InvalidArtefact, format!("rten cannot run this model: {what}"))
                .with_subject(path.display().to_string())
                .with_advice(GET_ONNXRUNTIME)
        };
        let model = ModelOptions::with_all_ops().load_file(&path).map_err(|e| refused(e.to_string()))?;
        let input = graph.inputs.first().and_then(|input| model.find_node(&input.name));
        let input = input.ok_or_else(|| refused("its input is not in the loaded graph".into()))?;
        let output = model.find_node(output).ok_or_else(|| {
            refused(format!("the tensor {output:?} is not in the loaded graph: it was joined with its neighbours"))
        })?;
        let threads = Arc::new(rten::ThreadPool::with_num_threads(threads.max(1)));
        Ok(Rten { model, input, output, threads, path })
    }

    fn run(&self, pixels: &Pixels, shape: [usize; 4]) -> Result<HostTensor> {
        let failed = |what: String| failed(&self.path, "rten", what, GET_ONNXRUNTIME);
        let view = match pixels {
            Pixels::Floats(values) => {
                ValueView::from_shape(shape, values.as_slice()).map_err(|e| failed(e.to_string()))?
            }
            Pixels::Bytes(values) => {
                ValueView::from_shape(shape, values.as_slice()).map_err(|e| failed(e.to_string()))?
            }
        };
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let outputs = self.model.run(vec![(self.input, view.into())], &[self.output], Some(options));
        let outputs = outputs.map_err(|e| failed(e.to_string()))?;
        match outputs.into_iter().next() {
            Some(Value::FloatTensor(tensor)) => {
                Ok(HostTensor { shape: tensor.shape().to_vec(), data: tensor.to_vec() })
            }
            _ => Err(failed("the output is no tensor of floats".into())),
        }
    }
}

/// Operations that rten computes wrongly.
fn check_operations(graph: &Graph) -> Result<()> {
    let cubic = |node: &&super::graph::Node| {
        matches!(node.operation.as_str(), "Resize" | "Upsample")
            && node.texts.get("mode").is_some_and(|mode| mode.contains("cubic"))
    };
    let Some(node) = graph.nodes.iter().find(cubic) else { return Ok(()) };
    let tensor = node.outputs.first().cloned().unwrap_or_default();
    Err(Error::new(Code::InvalidArtefact, "the engine inside rkd computes one of this model's operations wrongly")
        .with_subject(graph.path.display().to_string())
        .with_values("no cubic Resize", format!("Resize with mode=cubic, which gives {tensor:?}"))
        .with_advice(
            "install onnxruntime-node beside rkd or name onnxruntime's library (--onnxruntime FILE); \
             or export the model at its own image size, so that nothing is resized",
        ))
}

/// The library.
pub struct Onnxruntime {
    session: Mutex<ort::session::Session>,
    output: String,
    path: PathBuf,
    library: PathBuf,
}

impl Onnxruntime {
    fn load(graph: &Graph, output: &str, library: &Path, threads: usize) -> Result<Onnxruntime> {
        let environment = environment(library)?;
        let path = graph.path.clone();
        let load = || -> std::result::Result<ort::session::Session, String> {
            let builder = ort::session::Session::builder(&environment).map_err(|e| e.to_string())?;
            let builder = builder.with_intra_threads(threads.max(1)).map_err(|e| e.to_string())?;
            let mut builder = builder.with_deterministic_compute(true).map_err(|e| e.to_string())?;
            builder.commit_from_file(&path).map_err(|e| e.to_string())
        };
        let session = load().map_err(|what| {
            Error::new(Code::InvalidArtefact, format!("onnxruntime cannot run this model: {what}"))
                .with_subject(path.display().to_string())
                .with_advice("export the model again, for the version of onnxruntime that is installed")
        })?;
        let library = library.to_path_buf();
        Ok(Onnxruntime { session: Mutex::new(session), output: output.to_string(), path, library })
    }

    fn run(&self, input: &InputForm, pixels: Pixels, shape: [usize; 4]) -> Result<HostTensor> {
        use ort::value::Tensor;
        let failed = |what: String| {
            failed(&self.path, "onnxruntime", what, "try rten (--teacher-engine rten), or export the model again")
        };
        let dims = shape.map(|length| length as i64);
        let value = match (pixels, input.number) {
            (Pixels::Floats(values), Number::Float16) => {
                let halves: Vec<half::f16> = values.iter().map(|&value| half::f16::from_f32(value)).collect();
                Tensor::from_array((dims, halves)).map(Tensor::into_dyn)
            }
            (Pixels::Floats(values), _) => Tensor::from_array((dims, values)).map(Tensor::into_dyn),
            (Pixels::Bytes(values), _) => Tensor::from_array((dims, values)).map(Tensor::into_dyn),
        };
        let value = value.map_err(|e| failed(e.to_string()))?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(ort::inputs![input.name.as_str() => value]).map_err(|e| failed(e.to_string()))?;
        let output = outputs.get(self.output.as_str()).ok_or_else(|| failed("the output did not come".into()))?;
        let floats = output.try_extract_tensor::<f32>();
        let (shape, data) = match floats {
            Ok((shape, data)) => (shape.to_vec(), data.to_vec()),
            Err(_) => {
                let (shape, data) = output.try_extract_tensor::<half::f16>().map_err(|e| failed(e.to_string()))?;
                (shape.to_vec(), data.iter().map(|value| value.to_f32()).collect())
            }
        };
        Ok(HostTensor { shape: shape.into_iter().map(|length| length as usize).collect(), data })
    }
}

/// One library serves a process: the first that was asked for.
fn environment(library: &Path) -> Result<ort::environment::Environment> {
    static LOADED: Mutex<Option<(PathBuf, ort::environment::Environment)>> = Mutex::new(None);
    let unusable = |what: String| {
        Error::new(Code::NotFound, format!("onnxruntime's library cannot be loaded: {what}"))
            .with_subject(library.display().to_string())
            .with_values("libonnxruntime.so, .dylib or .dll of version 1.17 or newer", "this file")
            .with_advice("give the library of an installed onnxruntime, or leave the option out to use rten")
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = loaded.as_ref() {
        if path != library {
            if !library.exists() {
                return Err(unusable("there is no such file".into()));
            }
            return Err(Error::new(Code::InvalidOption, "this process has loaded another onnxruntime")
                .with_subject("teacher.onnx.onnxruntime")
                .with_values(path.display().to_string(), library.display().to_string())
                .with_advice("use one library in a process"));
        }
        return Ok(environment.clone());
    }
    let builder = ort::init_from(library).map_err(|e| unusable(e.to_string()))?;
    let environment = builder.with_name("rkd").build().map_err(|e| unusable(e.to_string()))?;
    *loaded = Some((library.to_path_buf(), environment.clone()));
    Ok(environment)
}

/// `RKD_ONNXRUNTIME`, the path of the library.
fn library_of_environment() -> Option<PathBuf> {
    std::env::var_os("RKD_ONNXRUNTIME").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The library of an onnxruntime-node in a `node_modules` of the present folder or one above it, the newest there.
fn installed_library() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find_map(|folder| library_in(&folder.join("node_modules").join("onnxruntime-node").join("bin")))
}

/// `napi-v6/linux/x64/libonnxruntime.so.1` below `folder`, as the package lays it out.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let (system, beginning) = match std::env::consts::OS {
        "windows" => ("win32", "onnxruntime.dll"),
        "macos" => ("darwin", "libonnxruntime."),
        system => (system, "libonnxruntime.so"),
    };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let is_library = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning)) && path.is_file()
    };
    let places = names(folder).into_iter().rev().map(|version| version.join(system).join(machine));
    places.flat_map(|place| names(&place)).find(is_library)
}

fn no_library() -> Error {
    Error::new(Code::NotFound, "onnxruntime was asked for, and its library is not there")
        .with_subject("teacher.onnx.onnxruntime")
        .with_values("the library's path, by option, by RKD_ONNXRUNTIME, or an installed onnxruntime-node", "none")
        .with_advice("npm install onnxruntime-node, or leave the engine out to use rten")
}

fn inner_tensor(graph: &Graph, output: &str) -> Error {
    Error::new(Code::InvalidOption, "onnxruntime gives only the outputs of a graph")
        .with_subject("teacher.onnx.output")
        .with_values(
            graph.outputs.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>().join(" or "),
            format!("{output:?}, a tensor inside"),
        )
        .with_advice("leave the engine out: rten gives tensors inside too")
}

fn failed(path: &Path, engine: &str, what: String, advice: &str) -> Error {
    Error::new(Code::InvalidArtefact, format!("{engine} could not run the model: {what}"))
        .with_subject(path.display().to_string())
        .with_advice(advice)
}
