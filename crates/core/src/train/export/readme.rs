//! The model card of an export: what it is, what it is worth, how it is loaded, and what to know before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::plan::ExportPlan;
use super::report::{Cosine, ExportReport, ExportedModel};
use crate::artefact::model::Model;
use crate::data::Normalization;
use crate::export::network::{channels, normalization};
use crate::export::{Dtype, ExportInput, ExportTarget};

/// The text. `timm`: whether timm loads the folder; `images`: the training images, where they are known.
pub(super) fn readme(
    plan: &ExportPlan,
    model: &Model,
    report: &ExportReport,
    timm: bool,
    images: Option<usize>,
) -> String {
    let mut text = String::new();
    let mut add = |part: String| {
        text += part.trim();
        text += "\n\n";
    };
    if plan.to == ExportTarget::Transformers {
        add("---\nlibrary_name: transformers.js\npipeline_tag: image-feature-extraction\n---".into());
    }
    add(format!("# {}", title(plan, model)));
    add(what_it_is(plan, model, images));
    add(format!("## What it is worth\n\n{}", scores(plan, model, report)));
    add(format!("## How it is loaded\n\n{}", loading(plan, model, timm)));
    add(format!("## Images\n\n{}", pixels(plan, model)));
    add(format!("## Limits\n\n{}", limits(plan, model, images)));
    add("## Licence\n\nTo be filled in by whoever publishes this: the licence of these weights; the licence of the teacher, whose \
         knowledge they hold; the licence of the training images."
        .into());
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn title(plan: &ExportPlan, model: &Model) -> String {
    let run = plan.about.run.as_deref().and_then(|run| run.file_name()).map(|name| name.to_string_lossy().into_owned());
    run.unwrap_or_else(|| model.card.backbone.kind.clone())
}

fn parameters(model: &Model) -> usize {
    let parameters = crate::backbones::define(&model.card.backbone).map(|definition| definition.parameters);
    let of_classes = |name: &str| matches!(name, "classifier.weight" | "classifier.bias");
    let parameters = parameters.unwrap_or_default();
    parameters.iter().filter(|one| one.is_trained() && !of_classes(&one.name)).map(|one| one.count()).sum()
}

fn length(model: &Model) -> usize {
    crate::backbones::define(&model.card.backbone).map_or(0, |definition| definition.embedding_size)
}

fn what_it_is(plan: &ExportPlan, model: &Model, images: Option<usize>) -> String {
    let spec = &model.card.backbone;
    let norm = if spec.normalize { ", of norm 1" } else { "" };
    let colours = if spec.in_channels == 1 { "grey" } else { "colour" };
    let teachers = &plan.about.teachers;
    let taught = match (teachers.len(), model.card.origin.teachers.len()) {
        (0, 0) => "trained by labels".to_string(),
        (0, _) => "a student of a larger model, whose relations it keeps (relational knowledge distillation)".into(),
        _ => format!(
            "a student of {}, whose relations it keeps (relational knowledge distillation)",
            teachers.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    let data = match (&plan.about.data, images) {
        (Some(data), Some(images)) => format!("It was trained on {images} images of `{data}`."),
        (Some(data), None) => format!("It was trained on images of `{data}`."),
        (None, _) => "What it was trained on is not known here: to be filled in.".into(),
    };
    format!(
        "Turns an image into {} numbers{norm}: images that are alike have embeddings that are near. It is {taught}.\n\n\
         A `{}` of {} parameters for {colours} images of {side} x {side} pixels, made by rkd {} (seed {}). {data}",
        length(model),
        spec.kind,
        thousands(parameters(model)),
        model.card.origin.rkd,
        model.card.origin.seed,
        side = spec.image_size,
    )
}

/// `1234567` as `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|part| str::from_utf8(part).ok()).collect();
    parts.join(",")
}

/// The rows of the table: title, bytes, cosines, metrics, milliseconds.
struct Row<'a> {
    title: String,
    bytes: Option<u64>,
    cosine: Option<Cosine>,
    metrics: BTreeMap<String, f64>,
    milliseconds: Option<f64>,
    engine: &'a str,
}

fn scores(plan: &ExportPlan, model: &Model, report: &ExportReport) -> String {
    let mut rows = teachers_of(plan);
    if let Some(student) = &report.student {
        rows.push(Row {
            title: "before export".into(),
            bytes: Some(report.student_bytes),
            cosine: None,
            metrics: student.metrics.clone(),
            milliseconds: Some(student.milliseconds_per_image),
            engine: "rkd",
        });
    }
    rows.extend(report.models.iter().map(|exported: &ExportedModel| Row {
        title: format!("`{}`, {}", exported.file, exported.dtype.name()),
        bytes: Some(exported.bytes),
        cosine: exported.cosine,
        metrics: exported.evaluation.as_ref().map(|evaluation| evaluation.metrics.clone()).unwrap_or_default(),
        milliseconds: exported.evaluation.as_ref().map(|evaluation| evaluation.milliseconds_per_image),
        engine: exported.engine.as_deref().unwrap_or_default(),
    }));
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.metrics.keys()).collect();
    let shown = |name: &&&String| !name.starts_with("knn@") && !name.starts_with("top@");
    let names: Vec<&String> = names.iter().filter(shown).copied().collect();
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
    let titles = ["", "bytes", "cosine", "lowest"].into_iter().map(String::from);
    let titles = titles.chain(names.iter().map(|name| name.to_string())).chain(["ms/image".into(), "by".into()]);
    let kinds = titles.clone().enumerate().map(|(place, title)| match (place, &title[..]) {
        (0, _) | (_, "by") => "---".into(),
        _ => "---:".into(),
    });
    let mut lines = vec![line(titles.clone()), line(kinds)];
    lines.extend(rows.iter().map(|row| {
        let first = [
            row.title.clone(),
            row.bytes.map_or(String::new(), |bytes| thousands(bytes as usize)),
            number(row.cosine.map(|cosine| cosine.mean), 6),
            number(row.cosine.map(|cosine| cosine.min), 6),
        ];
        let metrics = names.iter().map(|name| number(row.metrics.get(*name).copied(), 4));
        line(first.into_iter().chain(metrics).chain([number(row.milliseconds, 3), row.engine.to_string()]))
    }));
    let images = report.student.as_ref().map_or(0, |student| student.images);
    let about = match (&report.student, report.models.iter().any(|model| model.evaluation.is_some())) {
        (Some(_), true) => format!(
            "Of {images} test images, on one machine, in batches of 64. Cosine: of an image's embedding and that of the model \
             before export, mean and lowest. Metrics are of the test part: of the run's own data, images that training did not see."
        ),
        _ => "It was not measured on images when it was exported.".into(),
    };
    let prefixes = match &model.card.prefixes[..] {
        [] => String::new(),
        lengths => format!(
            "\n\nIts first {} numbers are embeddings too{}.",
            lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
            if model.card.backbone.normalize { ", each to be divided by its own norm" } else { "" }
        ),
    };
    format!("{}\n\n{about}{prefixes}", lines.join("\n"))
}

/// A line of a table.
fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// The teachers, as the run's verdict has them.
fn teachers_of(plan: &ExportPlan) -> Vec<Row<'static>> {
    let Some(run) = &plan.about.run else { return Vec::new() };
    let text = std::fs::read_to_string(run.join("metrics.json")).unwrap_or_default();
    let metrics: Value = serde_json::from_str(&text).unwrap_or_default();
    let teachers = metrics["verdict"]["teachers"].as_array().cloned().unwrap_or_default();
    let row = |teacher: &Value| {
        let metrics = teacher["metrics"].as_object().cloned().unwrap_or_default();
        Row {
            title: format!("teacher `{}`", teacher["name"].as_str().unwrap_or_default()),
            bytes: None,
            cosine: None,
            metrics: metrics.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect(),
            milliseconds: teacher["millisecondsPerImage"].as_f64(),
            engine: "",
        }
    };
    teachers.iter().map(row).collect()
}

fn loading(plan: &ExportPlan, model: &Model, timm: bool) -> String {
    let mut parts = Vec::new();
    let (dtype, length) = (plan.dtypes.first().copied().unwrap_or(Dtype::Float32), length(model));
    if plan.to == ExportTarget::Transformers {
        let others: Vec<&str> = plan.dtypes.iter().map(|dtype| dtype.in_transformers()).collect();
        let choice = match others.len() {
            0 | 1 => String::new(),
            _ => format!(
                " `{{ dtype: \"{}\" }}` as third argument chooses another form ({}).",
                others[1],
                others.join(", ")
            ),
        };
        parts.push(format!(
            "In Node, with `npm install @huggingface/transformers`; the folder is named by its path:\n\n\
             ```js\n\
             import {{ env, pipeline }} from \"@huggingface/transformers\";\n\n\
             env.allowRemoteModels = false;\n\
             env.localModelPath = \"\";\n\
             const embed = await pipeline(\"image-feature-extraction\", \"./this-folder\");\n\
             const {{ data }} = await embed(\"photo.jpg\"); // {length} numbers\n\
             ```\n\n\
             In a browser, from a server that has the folder at `/models/this-folder`:\n\n\
             ```js\n\
             env.allowLocalModels = true;\n\
             env.allowRemoteModels = false;\n\
             env.localModelPath = \"/models/\";\n\
             const embed = await pipeline(\"image-feature-extraction\", \"this-folder\");\n\
             const {{ data }} = await embed(URL.createObjectURL(file));\n\
             ```\n\n\
             It takes `{}`.{choice}",
            dtype.in_transformers()
        ));
    }
    if matches!(plan.to, ExportTarget::Onnx | ExportTarget::Transformers) {
        let place = if plan.to == ExportTarget::Transformers { "onnx/" } else { "" };
        let (name, shape) = match plan.input {
            ExportInput::Floats => ("pixel_values", "float32 [n, 3, side, side], normalised"),
            ExportInput::Bytes => ("pixels", "uint8 [n, side, side, 3], as decoded"),
        };
        parts.push(format!(
            "In Python, with onnxruntime:\n\n\
             ```python\n\
             import onnxruntime\n\n\
             session = onnxruntime.InferenceSession(\"{place}{}\")\n\
             [embeddings] = session.run([\"image_embeds\"], {{\"{name}\": images}})  # images: {shape}\n\
             ```",
            dtype.file()
        ));
    }
    if timm {
        let norm = match model.card.backbone.normalize {
            true => "\nembeddings = torch.nn.functional.normalize(embeddings)  # timm does not",
            false => "",
        };
        parts.push(format!(
            "In Python, with timm:\n\n\
             ```python\n\
             import timm, torch\n\n\
             model = timm.create_model(\"local-dir:this-folder\", pretrained=True).eval()\n\
             transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n\
             embeddings = model(transform(image).unsqueeze(0)){norm}\n\
             ```"
        ));
    }
    if plan.to == ExportTarget::Safetensors {
        parts.push(
            "`safetensors.torch.load_file(\"model.safetensors\")` gives the weights by torchvision's names (those of \
             EfficientNets by timm's); `__metadata__[\"rkd\"]` is the network's description as JSON."
                .into(),
        );
    }
    let place = match plan.to {
        ExportTarget::Onnx => format!("this-folder/{}", dtype.file()),
        ExportTarget::Transformers => "this-folder".into(),
        _ => "this-folder/model.safetensors".into(),
    };
    if plan.to != ExportTarget::Timm {
        parts.push(format!(
            "As a teacher of a smaller model: `npx rkd distill --teacher {place} --data photos --out runs/smaller`."
        ));
    }
    parts.join("\n\n")
}

fn pixels(plan: &ExportPlan, model: &Model) -> String {
    let side = model.card.backbone.image_size;
    let Normalization { mean, std } = normalization(model);
    let last = match plan.input {
        ExportInput::Floats => format!(
            "then each channel v of 0 to 255 becomes `(v / 255 - mean) / std` with mean {mean:?} and std {std:?}"
        ),
        ExportInput::Bytes => "the bytes go in as they are".into(),
    };
    format!(
        "An image is turned upright, its short side is resized to {side} pixels by the Lanczos filter, the centre square is cut out, \
         and {last}. `preprocessor_config.json` says so{}.",
        if channels(model) == 3 { " to programs that read it" } else { "" }
    )
}

fn limits(plan: &ExportPlan, model: &Model, images: Option<usize>) -> String {
    let mut lines = Vec::new();
    if plan.to == ExportTarget::Transformers {
        lines.push(
            "transformers.js begins the centre crop one pixel further left or up than torchvision and rkd where the long side \
             after resizing exceeds the short one by 3, 7, 11, ... pixels. Embed queries and gallery by the same program, or \
             crop them to squares first."
                .to_string(),
        );
        lines.push(
            "Browsers resize by a filter of their own and ignore `resample`: embeddings differ a little from those made in Node."
                .into(),
        );
    }
    if model.card.backbone.in_channels == 1 {
        lines.push(
            "It was trained on grey images. Colours go in as three channels, and become grey inside; for grey images that is \
             exact."
                .into(),
        );
    }
    if plan.dtypes.contains(&Dtype::Float16) {
        lines.push(
            "float16 is the form of the weights in the file; they are widened when it is loaded, and arithmetic is float32."
                .into(),
        );
    }
    if plan.dtypes.contains(&Dtype::Int8) {
        lines.push(format!(
            "int8 was calibrated on {} training images: on images of another kind it loses more than the table says.",
            images.map_or(plan.calibration_images, |images| images.min(plan.calibration_images))
        ));
    }
    lines.push(
        "It knows what its training images showed. On others its neighbours may be poor; measure before you rely on it."
            .into(),
    );
    lines.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}
