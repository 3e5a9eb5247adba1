//! TypeScript's side of everything that crosses, made from the Rust types: `src/protocol/protocol.ts`, and the losses'
//! constructors in `src/options/losses.ts`. The test here fails where a file is stale; `npm run protocol` writes them
//! anew.

use std::fmt::Write as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ts_rs::{Config, TS};

use crate::losses::LossSpec;
use crate::{
    Code, backbones, bench, data, devices, export, input, limits, losses, metrics, nn, onnx, optim, options, sampling,
    serve, train, vectors,
};

/// A loss as TypeScript sees it.
struct LossDeclaration {
    kind: &'static str,
    docs: Vec<String>,
    name: String,
    text: String,
    needed: Vec<String>,
}

impl losses::Visitor for Vec<LossDeclaration> {
    fn loss<T: TS + DeserializeOwned>(&mut self, kind: &'static str, docs: &[&str]) {
        self.push(LossDeclaration::of::<T>(kind, docs));
    }
}

/// Every loss, in the order of the registry.
fn declarations() -> Vec<LossDeclaration> {
    let mut all = Vec::new();
    losses::visit(&mut all);
    all
}

impl LossDeclaration {
    fn of<T: TS + DeserializeOwned>(kind: &'static str, docs: &[&str]) -> Self {
        let (docs, config) = (docs.iter().map(|line| line.trim().to_string()).collect(), config());
        let needed = needed(|value| input::read::<T>("", value).map(drop), json!({}));
        LossDeclaration { kind, docs, name: T::name(&config), text: declare::<T>(), needed }
    }

    /// The constructor: the kind in camelCase; the paper's triplet loss is `triplet`.
    fn constructor(&self) -> String {
        if self.kind == "triplet-squared" { "triplet".into() } else { camel_case(self.kind) }
    }

    fn has_options(&self) -> bool {
        !self.text.contains("Record<symbol, never>")
    }

    /// What its constructor takes.
    fn options(&self) -> String {
        let term = if LossSpec::compares(self.kind) { "TeacherTermOptions" } else { "TermOptions" };
        // The rule of `TermSpec::check_tap`.
        let tap = if self.kind == "attention-transfer" { " & { readonly studentFeature: string }" } else { "" };
        let own = if self.has_options() {
            format!(" & Given<{}, {}>", self.name, union(&self.needed))
        } else {
            String::new()
        };
        term.to_string() + tap + &own
    }
}

fn camel_case(kind: &str) -> String {
    let (first, rest) = kind.split_once('-').unwrap_or((kind, ""));
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    first.to_string() + &rest.split('-').filter(|word| !word.is_empty()).map(capital).collect::<String>()
}

fn union(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    if quoted.is_empty() { "never".into() } else { quoted.join(" | ") }
}

/// The fields that may not be left out, found by leaving them out.
fn needed(read: impl Fn(&Value) -> crate::Result<()>, mut value: Value) -> Vec<String> {
    let mut names = Vec::new();
    while let Err(error) = read(&value) {
        let name = error.subject.unwrap();
        assert!(!names.contains(&name), "{name}: {}", error.message);
        let fits = [json!(2), json!(0.25), json!("a"), json!([1])].into_iter().find(|fits| {
            value[&name] = fits.clone();
            read(&value).err().and_then(|error| error.subject).is_none_or(|other| !other.starts_with(&name))
        });
        value[&name] = fits.unwrap();
        names.push(name);
    }
    names
}

fn config() -> Config {
    Config::new().with_large_int("number")
}

/// `export type T = ...` with its docs, read-only.
fn declare<T: TS>() -> String {
    let config = config();
    format!("{}export {}\n\n", T::docs().unwrap_or_default(), readonly(&T::decl(&config)))
}

/// Fields and lists that nobody may change.
fn readonly(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let comment = rest.find("/**").unwrap_or(rest.len());
        out += &fields_readonly(&rest[..comment]);
        let end = rest[comment..].find("*/").map_or(rest.len(), |end| comment + end + 2);
        out += &rest[comment..end];
        rest = &rest[end..];
    }
    out
}

fn fields_readonly(code: &str) -> String {
    let code = code.replace("Array<", "ReadonlyArray<").replace("{ [key in", "{ readonly [key in");
    let mut out = String::new();
    let mut word_start = None;
    // What stands before a colon in a template is no field.
    let mut in_template = false;
    for (i, letter) in code.char_indices() {
        in_template ^= letter == '`';
        let is_word = !in_template && (letter.is_alphanumeric() || letter == '_' || letter == '"');
        match word_start {
            None if is_word => word_start = Some(i),
            Some(start) if !is_word => {
                let is_field = letter == ':' || code[i..].starts_with("?:");
                if is_field && !code[start..i].contains("key in") {
                    out += "readonly ";
                }
                out += code[start..i].trim_matches(if is_field { '"' } else { '\0' });
                word_start = None;
            }
            _ => {}
        }
        if word_start.is_none() {
            out.push(letter);
        }
    }
    out + word_start.map_or("", |start| &code[start..])
}

/// What enums told apart by `kind` take: the fields that have a default may be left out.
fn given<T: DeserializeOwned>(name: &str, whole: &str, doc: &str, kinds: &[&str]) -> String {
    let mut text = format!("/** {doc} */\nexport type {name} =");
    for kind in kinds {
        let mut needed = needed(|value| input::read::<T>("", value).map(drop), json!({ "kind": kind }));
        needed.insert(0, "kind".into());
        write!(text, "\n  | Given<Extract<{whole}, {{ readonly kind: {kind:?} }}>, {}>", union(&needed)).unwrap();
    }
    text + ";\n\n"
}

fn list(name: &str, doc: &str, items: &[&str]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("/** {doc} */\nexport const {name} = [{}] as const;\n\n", quoted.join(", "))
}

const HEAD: &str =
    "// Made from the Rust types by `npm run protocol`. Do not edit: a test fails where this is stale.\n\n";

fn protocol() -> String {
    let mut text = format!("{HEAD}/** Everything that crosses between TypeScript and the core. */\n\n");
    text += "/** Every error code there is, with what it means. */\nexport const errorCodes = {\n";
    for code in Code::ALL {
        writeln!(text, "  {}: {:?},", code.as_str(), code.meaning()).unwrap();
    }
    text += "} as const;\n\n/** The stable name of a kind of error; a closed union, so a `switch` over it can be complete. */\n";
    text += "export type RkdErrorCode = keyof typeof errorCodes;\n\n";
    text += "/** A specification as it is given: what is not among `Needed` may be left out. */\n";
    text += "type Given<T, Needed extends keyof T> = Pick<T, Needed> & Partial<Omit<T, Needed>>;\n\n";
    text += &list("backboneKinds", "The architectures there are.", &backbones::kinds());
    text += "/** The name of an architecture. */\nexport type BackboneKind = (typeof backboneKinds)[number];\n\n";
    text += &loss_types();
    text += &declare::<optim::OptimizerSpec>();
    let doc = "An optimiser as it is given; what is left out has its default.";
    text += &given::<optim::OptimizerSpec>("OptimizerOptions", "Optimizer", doc, optim::OptimizerSpec::KINDS);
    text += &declare::<optim::ScheduleSpec>();
    let doc = "A schedule as it is given; what is left out has its default.";
    text += &given::<optim::ScheduleSpec>("ScheduleOptions", "Schedule", doc, optim::ScheduleSpec::KINDS);
    text += &declare::<data::SplitPlan>();
    let doc = "How images go to training, validation and test, as it is given.";
    text += &given::<data::SplitPlan>("Split", "SplitPlan", doc, data::SplitPlan::KINDS).replace(
        "Extract<SplitPlan, { readonly kind: \"lists\" }>",
        "Paths<Extract<SplitPlan, { readonly kind: \"lists\" }>>",
    );
    text += "/** `T` with `file:` URLs for its paths too. */\n";
    text += "type Paths<T> = { readonly [K in keyof T]: K extends \"kind\" ? T[K] : T[K] | URL };\n\n";
    macro_rules! all {
        ($($type:ty),* $(,)?) => { $(text += &declare::<$type>();)* };
    }
    all!(
        // Options.
        options::RunOptions,
        options::ResumeOptions,
        options::EvaluationOptions,
        options::ChoosingPart,
        options::Keep,
        options::DeviceOption,
        options::Distributed,
        options::BatchOptions,
        data::EpisodePlan,
        options::BackboneOptions,
        backbones::Stem,
        options::Weights,
        options::TeacherOptions,
        data::Normalization,
        nn::tuning::TrainingStatistics,
        options::DataOptions,
        options::Shares,
        data::DataKind,
        data::Labels,
        data::AugmentSpec,
        options::EvaluateOptions,
        options::FewShot,
        options::NeighboursOptions,
        options::EmbedOptions,
        options::ShardOptions,
        options::MergeOptions,
        options::LoadModelOptions,
        options::FidelityOptions,
        options::ExportOptions,
        export::ExportTarget,
        export::Dtype,
        export::ExportInput,
        train::embedded::EmbedFormat,
        train::embed::EmbedPlan,
        data::Shard,
        options::check::OptionPart,
        // Plans.
        options::ResolvedRun,
        options::Job,
        options::Policy,
        options::EvaluationPolicy,
        options::PlanFile,
        train::Plan,
        train::Start,
        devices::Device,
        nn::Precision,
        data::DataPlan,
        data::BatchPlan,
        backbones::BackboneSpec,
        train::WeightsPlan,
        nn::tuning::TuningPlan,
        train::TeacherPlan,
        onnx::OnnxOptions,
        vectors::VectorOptions,
        onnx::Pooling,
        onnx::EngineChoice,
        train::TeacherFeatures,
        bench::BenchPlan,
        // Reports.
        train::report::SessionSummary,
        data::DatasetSummary,
        data::PartCount,
        data::Part,
        data::BrokenImage,
        train::report::PartSize,
        train::report::MemoryEstimate,
        limits::Limit,
        limits::Limits,
        devices::CudaReport,
        devices::CudaDevice,
        devices::CudaLibrary,
        train::report::NetworkSummary,
        train::report::TeacherSummary,
        train::report::SegmentReport,
        train::report::TermMean,
        train::event::Term,
        train::report::Evaluation,
        train::report::PrefixEvaluation,
        train::report::TeacherFidelity,
        metrics::Fidelity,
        metrics::Retrieval,
        serve::LoadedModel,
        train::report::EmbedReport,
        train::report::WrittenShard,
        train::report::MergeReport,
        train::export::ExportReport,
        train::export::ExportedFile,
        train::export::ExportedModel,
        train::export::Cosine,
        options::DataSurvey,
        options::TeacherReport,
        options::NetworkReport,
        onnx::OnnxReport,
        vectors::VectorSummary,
        vectors::Norms,
        vectors::VectorFormat,
        vectors::VectorElement,
        data::Survey,
        bench::BenchReport,
        bench::ProfileReport,
        bench::CategoryTotal,
        nn::profile::Record,
        nn::profile::Category,
        // Events.
        train::Event,
        train::event::StepEvent,
        train::event::CollapseEvent,
        train::event::ChosenWeight,
    );
    laid_out(&text)
}

fn loss_types() -> String {
    let all = declarations();
    let kinds: Vec<&str> = all.iter().map(|loss| loss.kind).collect();
    let teacher: Vec<&str> = all.iter().filter(|loss| LossSpec::compares(loss.kind)).map(|loss| loss.kind).collect();
    let mut text = list("lossKinds", "The kinds of loss there are, as plans name them.", &kinds);
    text += &list("teacherLossKinds", "The kinds that compare with a teacher.", &teacher);
    text += &declare::<losses::TermOptions>();
    text += "/** Options of every term that compares with no teacher. */\n";
    text += "export type TermOptions = Omit<TeacherTermOptions, \"teacherFeature\" | \"teacher\">;\n\n";
    text += &declare::<losses::Weight>();
    text += &declare::<losses::Course>();
    text += &declare::<losses::Named>();
    text += &declare::<losses::Reduction>();
    text += &declare::<losses::CorrelationKernel>();
    text += &declare::<sampling::Negatives>();
    all.iter().filter(|loss| loss.has_options()).for_each(|loss| text += &loss.text);
    text +=
        "/** What each kind of loss is given; what is left out has its default. */\nexport interface LossOptions {\n";
    for loss in &all {
        writeln!(text, "{}\nreadonly {:?}: {};", comment(&loss.docs, ""), loss.kind, loss.options()).unwrap();
    }
    text += "}\n\n/** One term of the total loss: a kind with its options. */\n";
    text + "export type Loss = { readonly [K in keyof LossOptions]: { readonly kind: K } & LossOptions[K] }[keyof LossOptions];\n\n"
}

fn comment(lines: &[String], more: &str) -> String {
    let lines: String = lines
        .iter()
        .map(String::as_str)
        .chain([more].into_iter().filter(|line| !line.is_empty()))
        .fold(String::new(), |text, line| text + "\n * " + line);
    format!("/**{lines}\n */")
}

fn constructors() -> String {
    let all = declarations();
    let mut text = format!(
        "{HEAD}/** The constructors of the losses. Each returns the specification that plans and `evaluateLoss` take. */\n\n"
    );
    text += "import type { LossOptions } from \"../protocol/protocol.ts\";\n";
    text += "import { type LossConstructor, lossConstructor } from \"./construct.ts\";\n\n";
    for loss in &all {
        let docs = comment(&loss.docs, "@throws {RkdError} `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`");
        let (name, kind) = (loss.constructor(), loss.kind);
        writeln!(
            text,
            "{docs}\nexport const {name}: LossConstructor<{kind:?}> = lossConstructor({kind:?}, {name:?});\n"
        )
        .unwrap();
    }
    text += "/** By kind, in the order of the registry. */\n";
    text += "export const lossConstructors: { readonly [K in keyof LossOptions]: LossConstructor<K> } = {\n";
    for loss in &all {
        let (name, kind) = (loss.constructor(), loss.kind);
        let line = if name == kind {
            name
        } else {
            format!("{}: {name}", if kind.contains('-') { format!("{kind:?}") } else { kind.into() })
        };
        writeln!(text, "  {line},").unwrap();
    }
    text + "};\n"
}

/// Whether what follows a brace are fields, each to stand on a line of its own.
fn starts_fields(text: &str) -> bool {
    text.starts_with("/**")
        || (text.starts_with("readonly ") && !text.starts_with("readonly [") && !text.starts_with("readonly kind: K"))
}

/// A field a line, indented by its braces.
fn laid_out(text: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut angles) = (0usize, 0usize);
    let mut rest = text;
    let newline = |out: &mut String, depth: usize| {
        let kept = out.trim_end_matches([' ', '\n']).len();
        out.truncate(kept);
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(letter) = rest.chars().next() {
        if let Some(end) = rest.starts_with("/**").then(|| rest.find("*/").unwrap() + 2) {
            if depth > 0 {
                newline(&mut out, depth);
            }
            let lines: Vec<&str> = rest[..end].lines().map(str::trim).collect();
            let single = lines.len() == 3 && lines[1].len() + 2 * depth < 112;
            match single {
                true => write!(out, "/** {} */", lines[1].trim_start_matches("* ")).unwrap(),
                false => {
                    for (i, line) in lines.iter().enumerate() {
                        if i > 0 {
                            write!(out, "\n{} ", "  ".repeat(depth)).unwrap();
                        }
                        out += line;
                    }
                }
            }
            newline(&mut out, depth);
            rest = rest[end..].trim_start();
            continue;
        }
        rest = &rest[letter.len_utf8()..];
        match letter {
            '{' if angles == 0 && starts_fields(rest.trim_start()) => {
                out.push('{');
                depth += 1;
                newline(&mut out, depth);
                rest = rest.trim_start();
            }
            '{' => {
                let mut open = 1;
                let end = rest.find(|letter| {
                    open += i32::from(letter == '{') - i32::from(letter == '}');
                    open == 0
                });
                let end = end.unwrap();
                write!(out, "{{{}}}", &rest[..end]).unwrap();
                rest = &rest[end + 1..];
            }
            '}' => {
                depth -= 1;
                newline(&mut out, depth);
                out.push('}');
            }
            ',' | ';' if depth > 0 && angles == 0 => {
                out.push(';');
                if !rest.trim_start().starts_with('}') {
                    newline(&mut out, depth);
                }
                rest = rest.trim_start();
            }
            '<' => {
                angles += 1;
                out.push(letter);
            }
            '>' => {
                angles = angles.saturating_sub(1);
                out.push(letter);
            }
            '\n' if depth > 0 => {}
            letter => out.push(letter),
        }
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_string() + "\n"
}

#[test]
fn what_typescript_has_is_what_crosses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    for (name, text) in [("protocol/protocol.ts", protocol()), ("options/losses.ts", constructors())] {
        let file = root.join(name);
        if std::env::var_os("RKD_WRITE_PROTOCOL").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
        } else {
            let stale = std::fs::read_to_string(&file).unwrap_or_default() != text;
            assert!(!stale, "src/{name} is stale: run `npm run protocol` and commit what it writes");
        }
    }
}
