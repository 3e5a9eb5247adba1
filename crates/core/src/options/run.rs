//! `train` and `distill`: from partial options to the whole plan.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::stored::{StoredTeacher, find_model, find_teacher};
use super::{
    BackboneOptions, BatchOptions, ChoosingPart, DeviceOption, EvaluationOptions, EvaluationPolicy, Job, Keep,
    LARGEST_BATCH, Places, Policy, ResolvedRun, ResumeOptions, RunOptions, TeacherFeaturesOption, Threads,
    WeightsOption,
};
use crate::backbones::{BackboneSpec, Stem};
use crate::data::{AugmentSpec, BatchPlan, DataPlan, Labels, Stop};
use crate::error::{Code, Error, Result};
use crate::input::{self, fields_of, invalid, needed, read, unknown};
use crate::losses::{LossSpec, RkdAngle, RkdDistance, TermSpec, TripletSquared, Weight};
use crate::nn::tuning::TuningPlan;
use crate::optim::{OptimizerSpec, ScheduleSpec};
use crate::spelling::likely;
use crate::train::objective::Objective;
use crate::train::{Device, Plan, TeacherFeatures, TeacherPlan, WeightsPlan, check_labels};

/// The whole plan of `train(options)` or `distill(options)`.
///
/// # Errors
/// `ERR_INVALID_OPTION` and `ERR_UNKNOWN_OPTION` that name the option, `ERR_NOT_FOUND`, `ERR_CUDA_UNAVAILABLE`, and those of
/// looking at the data; when stopped.
pub fn resolve(job: Job, options: &Value, stop: Stop<'_>) -> Result<ResolvedRun> {
    check_keys(job, options)?;
    check_kinds(job, options)?;
    let mut options: RunOptions = read("", options)?;
    let losses = losses(job, options.losses.take())?;
    let teacher = match (job, &options.teacher) {
        (Job::Train, _) => None,
        (Job::Distill, Some(given)) => Some(find_teacher("teacher", given)?),
        (Job::Distill, None) => return Err(needed("teacher")),
    };
    let (name, backbone) = match job {
        Job::Train => ("backbone", options.backbone.take()),
        Job::Distill => ("student", options.student.take()),
    };
    let backbone = backbone.ok_or_else(|| needed(name))?;
    let mut data = options.data.resolve(teacher.as_ref().and_then(|teacher| teacher.model.input), stop)?;
    check_labels(data.labels, &losses, teacher.is_some())?;
    let seed = options.seed.map_or(1, Into::into);
    // A teacher and its student agree on the classes without being told.
    let of_teacher = teacher.as_ref().and_then(|teacher| teacher.model.run.as_ref());
    let of_teacher = of_teacher.filter(|run| (&run.data.source, &run.data.more) == (&data.source, &data.more));
    let of_teacher = of_teacher.filter(|run| run.data.labels == data.labels);
    if let Some(run) = of_teacher.filter(|_| options.data.0.split.is_none()) {
        data.split = run.data.split.clone();
    }
    let split_seed = options.split_seed.map(Into::into).or(of_teacher.map(|run| run.split_seed)).unwrap_or(seed);
    let warnings = teacher.as_ref().map(|teacher| teacher.warnings.clone()).unwrap_or_default();
    let usual = match &teacher {
        Some(StoredTeacher { onnx: None, vectors: None, .. }) | None => TeacherFeaturesOption::Live,
        Some(_) => TeacherFeaturesOption::Cached,
    };
    let features = match (features(options.teacher_features.unwrap_or(usual), &data.augment), &teacher) {
        (TeacherFeatures::Live, Some(StoredTeacher { vectors: Some(_), .. })) => {
            let expected = "\"cached\" with stored vectors, which see no augmented images";
            return Err(invalid("teacherFeatures", expected, "\"live\""));
        }
        (features, _) => features,
    };
    let evaluation = evaluation(options.evaluation.unwrap_or_default())?;
    let backbone = network(name, backbone, &data, &losses)?;
    let prefixes = options.prefixes.unwrap_or_default().0;
    if !prefixes.is_empty() {
        let objective = Objective::new(&losses)?.with_prefixes(&prefixes, backbone.normalize)?;
        backbone.embedding.map_or(Ok(()), |embedding| objective.check_prefixes(embedding))?;
    }
    let plan = Plan {
        backbone,
        prefixes,
        weights: options.weights.flatten().map(weights).transpose()?,
        tuning: TuningPlan {
            freeze: options.freeze.unwrap_or_default().0,
            learning_rates: options
                .learning_rates
                .unwrap_or_default()
                .into_iter()
                .map(|(pattern, factor)| (pattern, factor.0))
                .collect(),
            batch_norm: options.batch_norm.unwrap_or_default(),
        },
        teacher: teacher.map(|teacher| teacher.plan(features)),
        optimizer: options.optimizer.map_or_else(|| kind::<OptimizerSpec>("adam"), Ok)?,
        schedule: options.schedule.map_or_else(|| kind::<ScheduleSpec>("cosine"), Ok)?,
        clip_gradient_norm: options.clip_gradient_norm.flatten().map(|norm| norm.0),
        batch: batch(options.batch.unwrap_or_default(), &losses, data.labels)?,
        micro_batch: options.micro_batch.flatten().map(Into::into),
        epochs: options.epochs.map_or(20, Into::into),
        steps_per_epoch: options.steps_per_epoch.flatten().map(Into::into),
        seed,
        split_seed,
        threads: threads(options.threads),
        device: device(options.device)?,
        data,
        losses,
    };
    let policy = Policy {
        evaluation,
        keep: options.keep.unwrap_or(Keep::Best),
        patience: options.patience.flatten().map(Into::into),
        checkpoint_every_steps: options.checkpoint_every_steps.flatten().map(Into::into),
    };
    let (out, overwrite) = (options.out.absolute(), options.overwrite.unwrap_or(false));
    let accept_changed_data = options.accept_changed_data.unwrap_or(false);
    Ok(ResolvedRun { job, out, overwrite, plan, policy, accept_changed_data, warnings })
}

/// The whole plan of a stored one, `plan` and `policy` of the `plan.json` in `out`: itself, where rkd wrote it, and with
/// defaults where a person did. What `resume` ([`ResumeOptions`]) says comes before what is stored.
///
/// # Errors
/// As [`resolve`]; where data or teacher are not there any more, it names the option that says where they are.
pub fn resolve_stored(
    job: Job,
    plan: &Value,
    policy: &Value,
    out: &str,
    resume: &Value,
    stop: Stop<'_>,
) -> Result<ResolvedRun> {
    let resume: ResumeOptions = read("", resume)?;
    if resume.teacher.is_some() && job == Job::Train {
        return Err(invalid("teacher", "nothing with a run that has no teacher", "a path"));
    }
    let mut options = Map::new();
    for (name, value) in stored::<Plan>("plan", plan)?.chain(stored::<Policy>("policy", policy)?) {
        match (name.as_str(), &value) {
            ("teacher", Value::Null) => {}
            ("teacher", teacher) => {
                let mut teacher: Map<String, Value> = stored::<TeacherPlan>("plan.teacher", teacher)?.collect();
                options.extend(teacher.remove("features").map(|features| ("teacherFeatures".into(), features)));
                options.insert("teacher".into(), teacher.into());
            }
            ("tuning", tuning) => options.extend(stored::<TuningPlan>("plan.tuning", tuning)?),
            ("backbone", _) if job == Job::Distill => drop(options.insert("student".into(), value)),
            _ => drop(options.insert(name, value)),
        }
    }
    options.insert("out".into(), out.into());
    if let Some(places) = resume.data {
        move_data(options.entry("data").or_insert(Value::Null), &places)?;
    }
    if let Some(teacher) = resume.teacher {
        options.entry("teacher").or_insert_with(|| json!({}))["model"] = teacher.0.into();
    }
    let mut put = |name: &str, value: Value| drop(options.insert(name.into(), value));
    resume.threads.into_iter().for_each(|threads| put("threads", threads.0.into()));
    if let Some(device) = resume.device {
        put("device", input::write(&device)?);
    }
    let places = ["data", "teacher"].map(|name| options.get(name).cloned().unwrap_or_default());
    let found = resolve(job, &Value::Object(options), stop).map_err(|error| with_way_out(error, &places))?;
    let warnings = Vec::new(); // they were given when the run was started
    Ok(ResolvedRun { warnings, accept_changed_data: resume.accept_changed_data.unwrap_or(false), ..found })
}

/// Says where the data of a stored plan are now.
fn move_data(data: &mut Value, Places(places): &Places) -> Result<()> {
    let more = data["more"].as_array().map_or(0, Vec::len);
    if places.len() != more + 1 {
        let count = |count: usize| if count == 1 { "1 place".into() } else { format!("{count} places") };
        return Err(invalid("data", format!("{}, as many as the run had", count(more + 1)), count(places.len())));
    }
    let mut places = places.iter().map(|place| Value::from(place.0.clone()));
    let source = places.next().unwrap_or_default();
    match data {
        Value::Object(data) => {
            data.insert("source".into(), source);
            data.insert("more".into(), places.collect::<Vec<_>>().into());
        }
        data => *data = source,
    }
    Ok(())
}

/// The error about data or a teacher that are not at their place, with the option that says where they are now.
fn with_way_out(error: Error, [data, teacher]: &[Value; 2]) -> Error {
    let subject = error.subject.as_deref().filter(|_| error.code == Code::NotFound);
    let is = |place: &Value| place.as_str().is_some_and(|place| subject == Some(place));
    if is(&teacher["model"]) {
        return error.with_advice("where it has been moved, say where it is now with the option teacher (--teacher)");
    }
    let more = data["more"].as_array();
    if is(data) || is(&data["source"]) || more.is_some_and(|more| more.iter().any(is)) {
        return error
            .with_advice("where the data have been moved, say where they are now with the option data (--data)");
    }
    error
}

/// The fields of a part of a `plan.json`, which must be those of `T`.
fn stored<T: DeserializeOwned>(name: &str, part: &Value) -> Result<impl Iterator<Item = (String, Value)> + use<T>> {
    let known = fields_of::<T>();
    let Value::Object(fields) = part else { return Err(invalid(name, "an object", input::show(part))) };
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        Some(strange) => Err(unknown(name, strange, known)),
        None => Ok(fields.clone().into_iter()),
    }
}

/// Options of the other job are none of this one.
fn check_keys(job: Job, options: &Value) -> Result<()> {
    let Value::Object(given) = options else { return Ok(()) };
    let foreign: &[&str] = match job {
        Job::Train => &["student", "teacher", "teacherFeatures", "acceptChangedData"],
        Job::Distill => &["backbone"],
    };
    let known: Vec<&str> = fields_of::<RunOptions>().iter().filter(|name| !foreign.contains(name)).copied().collect();
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown("", name, &known)),
        None => Ok(()),
    }
}

/// A loss that compares with a teacher is none of `train`'s, nor is it the one that a slip of the fingers meant.
fn check_kinds(job: Job, options: &Value) -> Result<()> {
    let given = options["losses"].as_array().filter(|_| job == Job::Train);
    for (i, term) in given.into_iter().flatten().enumerate() {
        let Some(kind) = term["kind"].as_str() else { continue };
        let known = LossSpec::KINDS;
        let meant = if known.contains(&kind) { Some(kind.to_string()) } else { likely(kind, known) };
        let Some(meant) = meant.filter(|meant| LossSpec::compares(meant)) else { continue };
        let others: Vec<&str> = known.iter().filter(|kind| !LossSpec::compares(kind)).copied().collect();
        return Err(invalid(
            format!("losses[{i}].kind"),
            format!("one of {}", others.join(", ")),
            input::show(&kind.into()),
        )
        .with_advice(format!("for {meant}, which compares with a teacher, use distill()")));
    }
    Ok(())
}

fn losses(job: Job, given: Option<Vec<TermSpec>>) -> Result<Vec<TermSpec>> {
    let losses = given.unwrap_or_else(|| match job {
        Job::Train => vec![TermSpec::new(LossSpec::TripletSquared(TripletSquared::default()))],
        Job::Distill => vec![
            TermSpec::new(LossSpec::RkdDistance(RkdDistance::default())),
            TermSpec { weight: Weight::Number(2.0), ..TermSpec::new(LossSpec::RkdAngle(RkdAngle::default())) },
        ],
    });
    if losses.is_empty() {
        return Err(invalid("losses", "a list of at least one loss", "an array of 0"));
    }
    for (i, term) in losses.iter().enumerate() {
        term.check_tap(&format!("losses[{i}]"))?;
    }
    if losses.iter().all(|term| term.weight == Weight::Number(0.0)) {
        return Err(invalid("losses", "a loss of weight greater than 0", "0"));
    }
    Ok(losses)
}

/// The specification `kind` with every default.
fn kind<T: DeserializeOwned>(kind: &str) -> Result<T> {
    read(kind, &json!({ "kind": kind }))
}

fn network(name: &str, given: BackboneOptions, data: &DataPlan, losses: &[TermSpec]) -> Result<BackboneSpec> {
    given.check(name)?;
    let pixels = (given.image_size.unwrap_or(data.image_size), given.in_channels.unwrap_or(data.channels));
    if pixels != (data.image_size, data.channels) {
        let words = |(size, channels)| format!("{size} pixels, {channels} channels");
        return Err(invalid(
            format!("{name}.imageSize"),
            format!("{}, those of the data", words((data.image_size, data.channels))),
            words(pixels),
        ));
    }
    let is_mlp = given.kind.0 == "mlp";
    Ok(BackboneSpec {
        kind: given.kind.0.into(),
        width: given.width.map_or(64, Into::into),
        hidden: match given.hidden {
            Some(hidden) => hidden.into_iter().map(Into::into).collect(),
            None if is_mlp => vec![256, 256],
            None => Vec::new(),
        },
        stem: given.stem.unwrap_or(if data.image_size <= 64 { Stem::Small } else { Stem::Imagenet }),
        embedding: given.embedding.flatten().map(Into::into),
        normalize: given.normalize.unwrap_or_else(|| losses.iter().any(|term| term.build().wants_unit_norm())),
        in_channels: data.channels,
        image_size: data.image_size,
        classes: None,
    })
}

fn weights(WeightsOption(given): WeightsOption) -> Result<WeightsPlan> {
    Ok(WeightsPlan {
        file: find_model("weights", &given.file)?.file,
        key: given.key.flatten().map(Into::into),
        except: given.except.unwrap_or_default().0,
        normalization: given.normalization.flatten(),
    })
}

fn features(given: TeacherFeaturesOption, augment: &AugmentSpec) -> TeacherFeatures {
    let plain = *augment == AugmentSpec { flip: augment.flip, ..AugmentSpec::default() };
    match given {
        TeacherFeaturesOption::Live => TeacherFeatures::Live,
        TeacherFeaturesOption::Cached => TeacherFeatures::Cached,
        TeacherFeaturesOption::Auto if plain => TeacherFeatures::Cached,
        TeacherFeaturesOption::Auto => TeacherFeatures::Live,
    }
}

fn batch(given: BatchOptions, losses: &[TermSpec], labels: Labels) -> Result<BatchPlan> {
    let by_class = |name: &str, received: String| {
        Err(invalid(format!("batch.{name}"), "nothing with images without labels", received)
            .with_advice("their batches are drawn without regard to class"))
    };
    match (labels, &given.per_class, &given.episode) {
        (Labels::None, Some(Some(per_class)), _) => return by_class("perClass", per_class.0.to_string()),
        (Labels::None, _, Some(Some(_))) => return by_class("episode", "an episode".into()),
        _ => {}
    }
    if let Some(episode) = given.episode.flatten() {
        let size = episode.images();
        if size > LARGEST_BATCH as usize {
            let expected = format!("an episode of at most {LARGEST_BATCH} images");
            return Err(invalid("batch.episode", &expected, format!("{size} images")));
        }
        let beside = |name: &str, value: String| {
            Err(invalid(format!("batch.{name}"), "nothing beside batch.episode", value)
                .with_advice("it follows from the episode"))
        };
        match (given.size.map(usize::from), given.per_class) {
            (Some(given), _) if given != size => return beside("size", given.to_string()),
            (_, Some(Some(per_class))) => return beside("perClass", per_class.0.to_string()),
            _ => {}
        }
        for term in losses.iter().filter(|term| !term.weight.is_off()) {
            let LossSpec::Prototypical(loss) = &term.loss else { continue };
            if (loss.way, loss.support_count) != (episode.way, episode.shots) {
                let words = |way, shots| format!("way {way} and shots {shots}");
                return Err(Error::new(Code::InvalidOption, "the episode must be that of the loss")
                    .with_subject("batch.episode")
                    .with_values(
                        format!("{}, those of prototypical", words(loss.way, loss.support_count)),
                        words(episode.way, episode.shots),
                    ));
            }
        }
        return Ok(BatchPlan { size, per_class: None, episode: Some(episode) });
    }
    let on = || losses.iter().filter(|term| !term.weight.is_off());
    if on().any(|term| matches!(term.loss, LossSpec::Prototypical(_))) {
        return Err(invalid("batch.episode", "an episode with prototypical", "undefined")
            .with_advice("for example batch: { episode: { way: 5, shots: 1, queries: 5 } }"));
    }
    let size = given.size.map_or(64, Into::into);
    let alone = losses.iter().all(|term| term.build().sees_images_alone());
    let usual = if alone || labels == Labels::None { None } else { Some(size.min(4)) };
    let per_class = given.per_class.map_or(usual, |count| count.map(Into::into));
    if let Some(count) = per_class.filter(|count| *count > size) {
        return Err(invalid(
            "batch.perClass",
            format!("a whole number at least 1 and at most {size}"),
            count.to_string(),
        ));
    }
    if let Some(term) = on().find(|term| term.build().needs_class_pairs())
        && !per_class.is_some_and(|count| (2..size).contains(&count))
    {
        let received = per_class.map_or("null".into(), |count| count.to_string());
        let expected = format!("2 to {} with {}", size - 1, term.loss.name());
        return Err(invalid("batch.perClass", expected, received)
            .with_advice("this loss needs two images of one class and one of another"));
    }
    Ok(BatchPlan { size, per_class, episode: None })
}

fn evaluation(given: EvaluationOptions) -> Result<EvaluationPolicy> {
    let every_steps = given.every_steps.flatten().map(Into::into);
    let every_epochs = match (given.every_epochs, every_steps) {
        (Some(Some(epochs)), _) => Some(epochs.into()),
        (None, None) => Some(1),
        (_, Some(_)) => None,
        (Some(None), None) => {
            let expected = "a whole number at least 1, or null beside everySteps";
            return Err(invalid("evaluation.everyEpochs", expected, "null"));
        }
    };
    let part = given.part.unwrap_or(ChoosingPart::Validation);
    Ok(EvaluationPolicy { every_epochs, every_steps, ks: given.ks.unwrap_or_default().0, part })
}

/// The number of threads; 0: all cores.
pub(super) fn threads(given: Option<Threads>) -> usize {
    match given.map_or(0, usize::from) {
        0 => std::thread::available_parallelism().map_or(1, |count| count.get()),
        threads => threads,
    }
}

fn device(given: Option<DeviceOption>) -> Result<Device> {
    match given.unwrap_or(DeviceOption::Auto) {
        DeviceOption::Auto | DeviceOption::Cpu => Ok(Device::Cpu),
        DeviceOption::CandleCpu => Ok(Device::CandleCpu),
        DeviceOption::Cuda => Err(Error::new(Code::CudaUnavailable, "this build computes on the CPU only")
            .with_subject("device")
            .with_values("\"auto\", \"cpu\" or \"candle-cpu\"", "\"cuda\"")
            .with_advice("say device: \"auto\", which takes the best there is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(more: Value) -> Value {
        let mut options = json!({ "data": "glyphs", "out": "runs/x", "backbone": { "kind": "conv4" } });
        for (name, value) in more.as_object().unwrap() {
            options[name] = value.clone();
        }
        options
    }

    #[test]
    fn a_whole_plan_resolves_to_itself() {
        let episode = json!({ "episode": { "way": 5, "shots": 1, "queries": 2 } });
        let lists = json!({ "source": "glyphs:classes=9", "split": { "kind": "source", "validation": 0.2 }, "augment": "none" });
        for more in [
            json!({}),
            json!({ "batch": episode, "losses": [{ "kind": "prototypical", "way": 5, "supportCount": 1 }] }),
            json!({ "evaluation": { "everySteps": 7 }, "patience": 2, "clipGradientNorm": 1, "microBatch": 8, "keep": "both" }),
            json!({ "data": lists, "losses": [{ "kind": "cross-entropy" }], "freeze": ["conv1"], "learningRates": { "fc": 2 } }),
            json!({ "backbone": { "kind": "mlp", "embedding": 8 }, "prefixes": [4, 2], "optimizer": { "kind": "sgd" }, "threads": 3 }),
            json!({ "schedule": { "kind": "step", "milestones": [3, 9] }, "losses": [{ "kind": "margin", "weight": { "from": 0, "to": 1 } }] }),
        ] {
            let run = resolve(Job::Train, &train(more), &|| false).unwrap();
            let (plan, policy) = (input::write(&run.plan).unwrap(), input::write(&run.policy).unwrap());
            let again = resolve_stored(Job::Train, &plan, &policy, "runs/x", &json!({}), &|| false).unwrap();
            assert_eq!(input::write(&again).unwrap(), input::write(&run).unwrap());
        }
    }

    #[test]
    fn what_a_person_left_out_of_a_plan_is_filled_in_and_what_is_strange_is_named() {
        let plan = || json!({ "data": "glyphs", "backbone": { "kind": "conv4" } });
        let stored =
            |plan: Value, policy: Value| resolve_stored(Job::Train, &plan, &policy, "runs/x", &json!({}), &|| false);
        let run = stored(plan(), json!({})).unwrap();
        assert_eq!(
            input::write(&run).unwrap(),
            input::write(&resolve(Job::Train, &train(json!({})), &|| false).unwrap()).unwrap()
        );
        let with = |name: &str, value: Value| {
            let mut plan = plan();
            plan[name] = value;
            plan
        };
        for (plan, policy, expected) in [
            (json!([]), json!({}), "plan: invalid value: expected an object"),
            (plan(), json!("keep: last"), "policy: invalid value: expected an object"),
            (plan(), json!({ "seed": 9 }), "policy.seed: there is no such option"),
            (with("keep", json!("last")), json!({}), "plan.keep: there is no such option"),
            (with("tuning", json!({ "seed": 9 })), json!({}), "plan.tuning.seed: there is no such option"),
            (with("teacher", json!({ "file": "x" })), json!({}), "plan.teacher.file: there is no such option"),
        ] {
            let found = stored(plan, policy).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}\nis not {expected}");
        }
    }

    #[test]
    fn a_constructor_a_sketch_and_the_whole_specification_are_the_same() {
        let of = |loss: Value| resolve(Job::Train, &train(json!({ "losses": [loss] })), &|| false).unwrap().plan.losses;
        let sketch = of(json!({ "kind": "triplet-squared" }));
        let whole = input::write(&sketch[0]).unwrap();
        assert_eq!(whole["negatives"], "distance-weighted");
        assert_eq!(of(whole), sketch);
        assert_eq!(resolve(Job::Train, &train(json!({})), &|| false).unwrap().plan.losses, sketch);
    }

    #[test]
    fn errors_name_the_option_what_was_expected_and_what_came() {
        let message = |more: Value| resolve(Job::Train, &train(more), &|| false).unwrap_err().to_string();
        for (more, expected) in [
            (json!({ "epohcs": 3 }), "epohcs: there is no such option"),
            (json!({ "epohcs": 3 }), "Did you mean \"epochs\"?"),
            (
                json!({ "losses": [{ "kind": "margin" }, { "kind": "margin", "alpha": "1" }] }),
                "losses[1].alpha: invalid value: expected a number greater than 0, received \"1\"",
            ),
            (
                json!({ "losses": [{ "kind": "margin", "weight": { "from": 0 } }] }),
                "losses[0].weight.to: this option is needed",
            ),
            (
                json!({ "losses": [{ "kind": "margin", "teacherFeature": "pooled" }] }),
                "losses[0].teacherFeature: there is no such option",
            ),
            (json!({ "optimizer": { "kind": "adamw" } }), "Did you mean \"adam-w\"?"),
            (
                json!({ "optimizer": { "kind": "adam", "lr": 0.1 } }),
                "optimizer.lr: there is no such option: expected one of learningRate, beta1, beta2, epsilon, weightDecay, \
                 received \"lr\". Did you mean \"learningRate\"?",
            ),
            (
                json!({ "optimizer": { "lr": 0.1 } }),
                "optimizer.kind: invalid value: expected \"adam\" or \"adam-w\" or \"sgd\"",
            ),
            (json!({ "batch_size": 32 }), "batch_size: there is no such option"),
            (json!({ "batch_size": 32 }), "Did you mean \"batch.size\"?"),
            (json!({ "losses": [{ "kind": "triplet" }] }), "Did you mean \"triplet-squared\"?"),
            (
                json!({ "schedule": { "kind": "step", "milestones": [5, 3] } }),
                "schedule.milestones[1]: invalid value: expected a whole number at least 6, received 3",
            ),
            (
                json!({ "learningRates": { "fc": 0 } }),
                "learningRates[\"fc\"]: invalid value: expected a number greater than 0, received 0",
            ),
            (json!({ "seed": 9_007_199_254_740_992_u64 }), "seed: invalid value"),
            (
                json!({ "epochs": null }),
                "epochs: invalid value: expected a whole number at least 1 and at most 1000000, received null",
            ),
            (json!({ "epochs": "\0NaN" }), "received NaN"),
            (
                json!({ "microBatch": 1_000_000_000 }),
                "microBatch: invalid value: expected a whole number at least 2 and at most 65536",
            ),
            (
                json!({
                    "losses": [{ "kind": "prototypical", "way": 10_000, "supportCount": 10 }],
                    "batch": { "episode": { "way": 10_000, "shots": 10, "queries": 10_000 } },
                }),
                "batch.episode: invalid value: expected an episode of at most 65536 images, received 100100000 images",
            ),
            (json!({ "prefixes": 32 }), "prefixes: invalid value: expected a list of lengths, for example [32, 64]"),
            (json!({ "prefixes": [1] }), "prefixes[0]: invalid value: expected a whole number at least 2"),
            (
                json!({ "prefixes": [8, 16], "backbone": { "kind": "conv4", "embedding": 16 } }),
                "prefixes: a prefix is a part of the student's embedding: expected lengths below 16",
            ),
            (
                json!({ "prefixes": [8], "losses": [{ "kind": "triplet-squared", "studentFeature": "pooled" }] }),
                "prefixes: no loss would train the prefixes: expected a loss that reads the embedding",
            ),
            // What would be allocated, or wrap, before anything else could look at it.
            (
                json!({ "stepsPerEpoch": 9_007_199_254_740_991_u64 }),
                "stepsPerEpoch: invalid value: expected a whole number",
            ),
            (json!({ "evaluation": { "ks": [4_294_967_297_u64] } }), "evaluation.ks[0]: invalid value"),
            (json!({ "student": { "kind": "conv4" } }), "student: there is no such option"),
            (
                json!({ "data": { "source": "glyphs", "split": { "kind": "classes", "validation": 0.5, "test": 0.5 } } }),
                "data.split: invalid value: expected shares that leave something",
            ),
            (
                json!({ "losses": [{ "kind": "rkd-angle" }] }),
                "losses[0].kind: invalid value: expected one of triplet-squared,",
            ),
            (
                json!({ "losses": [{ "kind": "rkd-angle" }] }),
                "For rkd-angle, which compares with a teacher, use distill()",
            ),
            (
                json!({ "losses": [{ "kind": "rkd_angle" }] }),
                "For rkd-angle, which compares with a teacher, use distill()",
            ),
        ] {
            let found = message(more);
            assert!(found.contains(expected), "{found}\nlacks {expected}");
        }
        assert_eq!(
            resolve(Job::Train, &train(json!({ "device": "cuda" })), &|| false).unwrap_err().code,
            Code::CudaUnavailable
        );
        assert!(
            resolve(Job::Train, &json!([]), &|| false)
                .unwrap_err()
                .to_string()
                .contains("options: invalid value: expected an object")
        );
    }
}
