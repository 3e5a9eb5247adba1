//! `train` and `distill`: from partial options to the whole plan.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::stored::{StoredTeacher, find_model, find_teacher, find_teachers};
use super::{
    BackboneOptions, BatchOptions, ChoosingPart, EvaluationOptions, EvaluationPolicy, Job, Keep, LARGEST_BATCH, Places,
    Policy, ResolvedRun, ResumeOptions, RunOptions, TeacherFeaturesOption, TeacherPlaces, Threads, WeightsOption,
};
use crate::backbones::{BackboneSpec, Stem, define};
use crate::data::{AugmentSpec, BatchPlan, DataKind, DataPlan, Labels, SplitPlan, Stop, TrainingPart};
use crate::devices::{self, Wish};
use crate::error::{Code, Error, Result};
use crate::input::{self, fields_of, invalid, needed, read, unknown};
use crate::losses::{Feature, LinearHint, LossSpec, RkdAngle, RkdDistance, TermSpec, TripletSquared, Weight};
use crate::nn::lowering::Program;
use crate::nn::tuning::{TrainingStatistics, TuningPlan};
use crate::optim::{OptimizerSpec, ScheduleSpec};
use crate::ranks;
use crate::spelling::likely;
use crate::train::objective::Objective;
use crate::train::pass::cut;
use crate::train::{Plan, TeacherFeatures, TeacherPlan, WeightsPlan, check_labels, reads_labels, weights_of};
use crate::vectors::VectorOptions;

/// The whole plan of `train(options)` or `distill(options)`.
///
/// # Errors
/// `ERR_INVALID_OPTION` and `ERR_UNKNOWN_OPTION` that name the option, `ERR_NOT_FOUND`, `ERR_DEVICE`, and those of
/// looking at the data; when stopped.
pub fn resolve(job: Job, options: &Value, stop: Stop<'_>) -> Result<ResolvedRun> {
    check_keys(job, options)?;
    check_kinds(job, options)?;
    let has_rate = options["optimizer"].get("learningRate").is_some();
    let mut options: RunOptions = read("", options)?;
    let mut teachers = find_teachers(options.teacher.take(), options.teachers.take())?;
    let (name, backbone) = match job {
        Job::Train => ("backbone", options.backbone.take().ok_or_else(|| needed("backbone"))?),
        Job::Distill => ("student", options.student.take().unwrap_or_default()),
    };
    let mut images = options.data.look(teachers.iter().find_map(|teacher| teacher.model.input), stop)?;
    let data = &mut images.plan;
    if job == Job::Distill && teachers.is_empty() {
        let vectors = data.vectors.as_ref().ok_or_else(|| needed("teacher"))?;
        teachers.push(data_as_teacher(&data.source, vectors)?);
    }
    let losses = losses(job, options.losses.take(), data)?;
    let backbone = match job {
        Job::Distill if backbone.kind.is_none() => usual_student(backbone, data)?,
        _ => backbone,
    };
    check_labels(data.labels, &losses, !teachers.is_empty())?;
    let seed = options.seed.map_or(1, Into::into);
    // A teacher and its student agree on the classes without being told.
    let mut of_teachers = teachers.iter().filter_map(|teacher| teacher.model.run.as_ref());
    let of_teacher = of_teachers
        .find(|run| (&run.data.source, &run.data.more, run.data.labels) == (&data.source, &data.more, data.labels));
    if let Some(run) = of_teacher.filter(|_| options.data.0.split.is_none()) {
        data.split = run.data.split.clone();
    }
    let split_seed = options.split_seed.map(Into::into).or(of_teacher.map(|run| run.split_seed)).unwrap_or(seed);
    let named = |StoredTeacher { name, warnings, .. }: &StoredTeacher| -> Vec<String> {
        warnings.iter().map(|warning| format!("Teacher {name}: {warning}")).collect()
    };
    let mut warnings: Vec<String> = teachers.iter().flat_map(named).collect();
    let plan = |teacher: StoredTeacher| {
        let features = features(&teacher, options.teacher_features, &data.augment)?;
        Ok(teacher.plan(features))
    };
    let teachers = teachers.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
    let evaluation = evaluation(options.evaluation.unwrap_or_default())?;
    let backbone = network(name, backbone, job, data, &losses)?;
    let (labels, alone) = (data.labels, teacher_alone(data));
    let mut part = || images.training_part(stop);
    let batch = batch(options.batch.unwrap_or_default(), &losses, labels, &mut part)?;
    let steps_per_epoch = options.steps_per_epoch.flatten().map(u64::from);
    let epochs = match (options.epochs, job) {
        (Some(epochs), _) => epochs.into(),
        (None, Job::Train) => 20,
        (None, Job::Distill) => match steps_per_epoch {
            Some(steps) => usual_epochs(steps.saturating_mul(batch.size as u64), alone),
            None => part().map_or(20, |part| usual_epochs(part.images as u64, alone)),
        },
    };
    let micro_batch = match options.micro_batch {
        Some(given) => given.map(Into::into),
        None if options.distributed.unwrap_or_default().is_asked_for() => usual_micro_batch(batch.size),
        None => None,
    };
    if let (None, Some(images)) = (options.micro_batch, micro_batch) {
        let pieces = cut(batch.size, micro_batch).len();
        let ranks: Vec<String> = (0..=pieces.ilog2()).map(|power| (1 << power).to_string()).collect();
        warnings.push(format!(
            "Each batch goes through the network in {pieces} micro batches of at most {images} images, so that {} processes \
             give the same model.",
            ranks.join(", ")
        ));
    }
    let together = options.distributed.unwrap_or_default().is_asked_for();
    let (device, warning) = devices::choose(options.device.map_or(Wish::Unsaid, Wish::from), together)?;
    warnings.extend(warning);
    let precision = options.precision.unwrap_or_default();
    devices::check_precision(device, precision)?;
    let prefixes = options.prefixes.unwrap_or_default().0;
    let weights = options.weights.flatten().map(weights).transpose()?;
    let trained = weights.is_some();
    let objective = Objective::new(&losses, &weights_of(&teachers))?.with_prefixes(&prefixes, backbone.normalize)?;
    backbone.embedding.map_or(Ok(()), |embedding| objective.check_prefixes(embedding))?;
    let plan = Plan {
        backbone,
        prefixes,
        weights,
        tuning: TuningPlan {
            freeze: options.freeze.unwrap_or_default().0,
            learning_rates: options
                .learning_rates
                .unwrap_or_default()
                .into_iter()
                .map(|(pattern, factor)| (pattern, factor.0))
                .collect(),
            batch_norm: options.batch_norm.unwrap_or_else(|| usual_statistics(trained)),
            dropout: options.dropout.map_or(0.0, |share| share.0),
            drop_path: options.drop_path.map_or(0.0, |share| share.0),
        },
        teachers,
        optimizer: optimizer(options.optimizer, has_rate, trained)?,
        schedule: options.schedule.map_or_else(|| kind::<ScheduleSpec>("cosine"), Ok)?,
        clip_gradient_norm: options.clip_gradient_norm.flatten().map(|norm| norm.0),
        batch,
        micro_batch,
        epochs,
        steps_per_epoch,
        seed,
        split_seed,
        threads: threads(options.threads),
        device,
        precision,
        data: images.plan.clone(),
        losses,
    };
    check_left_out(&plan, objective.student_features().contains(&Feature::Logits))?;
    let baseline = options.baseline.unwrap_or(false);
    let alone = if baseline { Some(by_labels_alone(&plan, || images.training_part(stop))?) } else { None };
    let data = images.pass_on();
    let patience = options.patience.flatten().map(Into::into);
    let policy = Policy {
        evaluation,
        keep: options.keep.unwrap_or_else(|| usual_keep(&data, trained || patience.is_some())),
        patience,
        checkpoint_every_steps: options.checkpoint_every_steps.flatten().map(Into::into),
        baseline,
    };
    let (out, overwrite) = (options.out.absolute(), options.overwrite.unwrap_or(false));
    let accept_changed_data = options.accept_changed_data.unwrap_or(false);
    Ok(ResolvedRun { job, out, overwrite, plan, policy, baseline: alone, accept_changed_data, warnings })
}

/// Refuses dropout and stochastic depth that the network has no place for. A classifier comes only when the classes are counted.
fn check_left_out(plan: &Plan, classifies: bool) -> Result<()> {
    if plan.tuning.dropout == 0.0 && plan.tuning.drop_path == 0.0 {
        return Ok(());
    }
    let spec = BackboneSpec { classes: classifies.then_some(2), ..plan.backbone.clone() };
    Program::training(&define(&spec)?, &plan.tuning, None).map(drop)
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
            ("teachers", Value::Array(teachers)) => {
                for (place, teacher) in teachers.iter().enumerate() {
                    let _ = stored::<TeacherPlan>(&format!("plan.teachers[{place}]"), teacher)?;
                }
                if job == Job::Distill {
                    options.insert(name, value);
                }
            }
            ("baseline", Value::Bool(false)) if job == Job::Train => {}
            ("tuning", tuning) => options.extend(stored::<TuningPlan>("plan.tuning", tuning)?),
            ("backbone", _) if job == Job::Distill => drop(options.insert("student".into(), value)),
            _ => drop(options.insert(name, value)),
        }
    }
    options.insert("out".into(), out.into());
    if let Some(places) = resume.data {
        if resume.teacher.is_none() {
            move_teachers_of_data(&mut options, &places);
        }
        move_data(options.entry("data").or_insert(Value::Null), &places)?;
    }
    if let Some(places) = resume.teacher {
        move_teachers(options.entry("teachers").or_insert(Value::Null), &places)?;
    }
    let epochs: Option<u64> = resume.epochs.map(Into::into);
    let planned = options.get("epochs").cloned();
    if let Some(epochs) = epochs {
        options.insert("epochs".into(), epochs.into());
    }
    let mut put = |name: &str, value: Value| drop(options.insert(name.into(), value));
    resume.threads.into_iter().for_each(|threads| put("threads", threads.0.into()));
    if let Some(device) = resume.device {
        put("device", input::write(&device)?);
    }
    if let Some(precision) = resume.precision {
        put("precision", input::write(&precision)?);
    }
    let places = ["data", "teachers"].map(|name| options.get(name).cloned().unwrap_or_default());
    let found = resolve(job, &Value::Object(options), stop).map_err(|error| with_way_out(error, &places))?;
    if let (Some(epochs), Some(planned), ScheduleSpec::Cosine { .. }) = (epochs, planned, &found.plan.schedule)
        && planned != epochs
    {
        let expected = format!("{planned}, as planned: the learning rate of a cosine schedule ends with them");
        return Err(invalid("epochs", expected, epochs.to_string())
            .with_advice("train on in a new run that begins with this one's model, as its weights"));
    }
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

/// Vectors that are their own teacher are where the data are.
fn move_teachers_of_data(options: &mut Map<String, Value>, Places(places): &Places) {
    let source = options.get("data").map(|data| data["source"].clone()).filter(Value::is_string);
    let teachers = options.get_mut("teachers").and_then(Value::as_array_mut);
    for teacher in teachers.into_iter().flatten().filter(|teacher| Some(&teacher["model"]) == source.as_ref()) {
        if let [place] = &places[..] {
            teacher["model"] = place.0.clone().into();
        }
    }
}

/// Says where the teachers of a stored plan are now.
fn move_teachers(teachers: &mut Value, places: &TeacherPlaces) -> Result<()> {
    let mut teachers: Vec<&mut Value> =
        teachers.as_array_mut().map(|list| list.iter_mut().collect()).unwrap_or_default();
    let names: Vec<String> =
        teachers.iter().map(|teacher| teacher["name"].as_str().unwrap_or_default().into()).collect();
    match (places, &mut teachers[..]) {
        (TeacherPlaces::Only(place), [only]) => only["model"] = place.0.clone().into(),
        (TeacherPlaces::Only(place), _) => {
            let expected = format!("the place of each that has moved by its name, one of {}", names.join(", "));
            let advice = "for example { NAME: \"models/a.onnx\" }, or --teacher NAME=models/a.onnx";
            return Err(invalid("teacher", expected, format!("{:?}", place.0)).with_advice(advice));
        }
        (TeacherPlaces::Named(places), teachers) => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            for (name, place) in places {
                let Some(at) = known.iter().position(|known| known == name) else {
                    return Err(unknown("teacher", name, &known));
                };
                teachers[at]["model"] = place.0.clone().into();
            }
        }
    }
    Ok(())
}

/// The error about data or a teacher that are not at their place, with the option that says where they are now.
fn with_way_out(error: Error, [data, teachers]: &[Value; 2]) -> Error {
    let subject = error.subject.as_deref().filter(|_| error.code == Code::NotFound);
    let is = |place: &Value| place.as_str().is_some_and(|place| subject == Some(place));
    if teachers.as_array().into_iter().flatten().any(|teacher| is(&teacher["model"])) {
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
        Job::Train => &["student", "teacher", "teachers", "teacherFeatures", "acceptChangedData", "baseline"],
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

/// What the relations weigh beside the triplet loss where neither is given.
const RELATIONS_BESIDE_LABELS: f64 = 1.0;

/// What `train` learns by, and what a baseline does where no loss of its own is left.
fn triplet() -> TermSpec {
    TermSpec::new(LossSpec::TripletSquared(TripletSquared::default()))
}

/// RKD-DA: distances and angles in the paper's ratio, 1 to 2.
fn relations(factor: f64) -> [TermSpec; 2] {
    let weighted = |weight: f64, loss| TermSpec { weight: Weight::Number(factor * weight), ..TermSpec::new(loss) };
    [
        weighted(1.0, LossSpec::RkdDistance(RkdDistance::default())),
        weighted(2.0, LossSpec::RkdAngle(RkdAngle::default())),
    ]
}

/// Whether a student learns from its teacher alone where no loss is given: there are no labels, or it makes vectors short, of
/// which the triplet loss takes more than it gives (`docs/teachers.md`, short vectors).
fn teacher_alone(data: &DataPlan) -> bool {
    data.labels == Labels::None || data.kind == DataKind::Vectors
}

/// What keeps the teacher's neighbours where there are no labels, beside its relations. Of 8,189 photographs of flowers and an
/// ImageNet teacher, 20 epochs, a student of RKD-DA alone shared 11 % of its ten nearest images with the teacher, with this
/// term 28 %, and the rank correlation of distances rose from 0.40 to 0.51 (one seed).
fn teacher_itself() -> TermSpec {
    TermSpec::new(LossSpec::LinearHint(LinearHint { relative: true }))
}

fn losses(job: Job, given: Option<Vec<TermSpec>>, data: &DataPlan) -> Result<Vec<TermSpec>> {
    let losses = given.unwrap_or_else(|| match job {
        Job::Train => vec![triplet()],
        Job::Distill if teacher_alone(data) => std::iter::once(teacher_itself()).chain(relations(1.0)).collect(),
        Job::Distill => std::iter::once(triplet()).chain(relations(RELATIONS_BESIDE_LABELS)).collect(),
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

/// The student of a `distill` that names none, with what is `said` of it: a network that a CPU trains in minutes and runs in
/// a millisecond or so. What counts is multiply-adds. Conv-4 of width 64 has 10 million of them for a grey image of 28 pixels and 57 million for 64
/// pixels in colour, where its flattened map of 1,024 numbers grows with the image too. So larger images get a ResNet-18 of
/// half the published width with the stem that divides the side by four: 40 million at 64 pixels, 480 million at 224.
fn usual_student(said: BackboneOptions, data: &DataPlan) -> Result<BackboneOptions> {
    let usual: BackboneOptions = read(
        "student",
        &match data.image_size {
            _ if data.kind == DataKind::Vectors => json!({ "kind": "mlp" }),
            0..=32 => json!({ "kind": "conv4" }),
            _ => json!({ "kind": "resnet18", "width": 32, "stem": "imagenet" }),
        },
    )?;
    let (width, stem) = (said.width.or(usual.width), said.stem.or(usual.stem));
    Ok(BackboneOptions { kind: usual.kind, width, stem, ..said })
}

/// The teacher of vectors that are to become short: they themselves.
fn data_as_teacher(source: &str, vectors: &VectorOptions) -> Result<StoredTeacher> {
    find_teacher("teacher", &read("teacher", &json!({ "model": source, "vectors": vectors }))?)
}

/// Numbers of a student's embedding where it is not said: short enough to store, and no 1,024 of a flattened map.
fn usual_embedding(kind: &str, data: DataKind) -> usize {
    if kind == "conv4" || data == DataKind::Vectors { 64 } else { 128 }
}

/// The epochs of a `distill` that says none, by the images of one: few images are shown often, many at least some times. In
/// all it is about 2,000 batches of 64, where the teacher alone is learned from twice as many: 40 epochs
/// in place of 20 took the share of neighbours in common from 28 to 31 %.
fn usual_epochs(images: u64, teacher_alone: bool) -> u64 {
    let batches = if teacher_alone { 4_000.0 } else { 2_000.0 };
    (batches * 64.0 / images.max(1) as f64).round().clamp(5.0, 60.0) as u64
}

/// What batch norm divides by in training where it is not said. Trained weights were trained with the statistics that stand beside
/// them: those of a batch, and of classes that they were not trained on, take away more than training gives.
fn usual_statistics(trained: bool) -> TrainingStatistics {
    if trained { TrainingStatistics::Running } else { TrainingStatistics::Batch }
}

/// How the weights are moved: trained ones, where no rate is said, at a tenth of the usual one, so that they keep what they
/// know.
fn optimizer(given: Option<OptimizerSpec>, has_rate: bool, trained: bool) -> Result<OptimizerSpec> {
    let usual = given.map_or_else(|| kind("adam"), Ok)?;
    let rate = usual.learning_rate();
    Ok(usual.with_learning_rate(if trained && !has_rate { rate / 10.0 } else { rate }))
}

/// The micro batch of which a batch has eight, or four, or two: then so many processes can share it, and half of them
/// and so on.
fn usual_micro_batch(batch: usize) -> Option<usize> {
    [8, 4, 2].into_iter().find_map(|pieces| (2..=batch).find(|&images| cut(batch, Some(images)).len() == pieces))
}

/// Which weights become the model where it is not said. Validation classes are few, and the test classes are others again: of 35
/// runs on five data sets the last weights had the better Recall@1 in 29, by 0.2 points on Cars to 5.7 on Flowers. Images
/// of the trained classes, or without any, choose as the test would; and some have their best weights `behind` them: whom
/// patience stops, and a network that begins with trained weights and can forget (ImageNet's, flowers: 68 % best, 59 % last).
fn usual_keep(data: &DataPlan, behind: bool) -> Keep {
    let alike = data.labels == Labels::None || matches!(data.split, SplitPlan::Images { .. });
    if alike || behind { Keep::Best } else { Keep::Last }
}

/// Images of a batch: 64, or as many as there are with at most `per_class` of a class; where that is too little to train on, opening
/// the data says so.
fn usual_batch(labels: Labels, part: Option<&TrainingPart>, per_class: Option<usize>) -> usize {
    let least = if labels == Labels::Classes { 4 } else { 2 };
    part.map_or(64, |part| part.most(per_class.unwrap_or(64)).clamp(least, 64))
}

/// Images of each class in a batch of `size`: 4, so that there are two classes at least, or as many as it takes to fill it, where
/// the classes are known. One class is too few to train on, which opening the data says.
fn usual_per_class(size: usize, part: Option<&TrainingPart>) -> usize {
    let usual = (size / 2).clamp(1, 4);
    let filling = |part: &TrainingPart| (usual..=size).find(|&per_class| part.most(per_class) >= size);
    part.filter(|part| part.classes > 1).and_then(filling).unwrap_or(usual)
}

/// The plan of the same student without its teacher: the losses of labels that are left, each with the largest weight that
/// it has; where there is none, the triplet loss on embeddings of norm 1, which is what its options assume.
fn by_labels_alone(plan: &Plan, part: impl FnOnce() -> Option<TrainingPart>) -> Result<Plan> {
    if plan.data.labels == Labels::None {
        return Err(invalid("baseline", "false with images without labels", "true")
            .with_advice("only the teacher says there what is alike, so there is nothing to learn without it"));
    }
    let alone = |term: &&TermSpec| !term.weight.is_off() && !term.build().needs_teacher();
    let constant = |term: &TermSpec| TermSpec { weight: Weight::Number(term.weight.largest()), ..term.clone() };
    let mut plan =
        Plan { teachers: Vec::new(), losses: plan.losses.iter().filter(alone).map(constant).collect(), ..plan.clone() };
    if !plan.losses.iter().any(reads_labels) {
        plan.losses.push(triplet());
        plan.backbone.normalize = true;
        if plan.batch.episode.is_none() && plan.batch.per_class.is_none_or(|count| count < 2) {
            plan.batch.per_class = Some(usual_per_class(plan.batch.size, part().as_ref()));
        }
    }
    Ok(plan)
}

fn network(name: &str, given: BackboneOptions, job: Job, data: &DataPlan, losses: &[TermSpec]) -> Result<BackboneSpec> {
    let kind = given.check(name)?;
    let pixels = (given.image_size.unwrap_or(data.image_size), given.in_channels.unwrap_or(data.channels));
    if pixels != (data.image_size, data.channels) {
        let words = |(size, channels)| format!("{size} pixels, {channels} channels");
        return Err(invalid(
            format!("{name}.imageSize"),
            format!("{}, those of the data", words((data.image_size, data.channels))),
            words(pixels),
        ));
    }
    let is_mlp = kind == "mlp";
    if data.kind == DataKind::Vectors && !is_mlp {
        return Err(invalid(format!("{name}.kind"), "\"mlp\" with data that are vectors", format!("{kind:?}"))
            .with_advice("the other networks embed pictures"));
    }
    Ok(BackboneSpec {
        kind: kind.into(),
        width: given.width.map_or(64, Into::into),
        hidden: match given.hidden {
            Some(hidden) => hidden.into_iter().map(Into::into).collect(),
            None if is_mlp => vec![256, 256],
            None => Vec::new(),
        },
        stem: given.stem.unwrap_or(if data.image_size <= 64 { Stem::Small } else { Stem::Imagenet }),
        embedding: match (given.embedding, job) {
            (Some(embedding), _) => embedding.map(Into::into),
            (None, Job::Train) => None,
            (None, Job::Distill) => Some(usual_embedding(kind, data.kind)),
        },
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

/// When the features of `teacher` are computed: as its own options say, else as those of `all` do.
fn features(
    teacher: &StoredTeacher,
    all: Option<TeacherFeaturesOption>,
    augment: &AugmentSpec,
) -> Result<TeacherFeatures> {
    let plain = *augment == AugmentSpec { flip: augment.flip, ..AugmentSpec::default() };
    match (teacher.features.or(all), &teacher.onnx, &teacher.vectors) {
        (Some(TeacherFeaturesOption::Live), _, Some(_)) => {
            let option = teacher.features.map_or("teacherFeatures".into(), |_| format!("{}.features", teacher.option));
            Err(invalid(option, "\"cached\" with stored vectors, which see no augmented images", "\"live\"")
                .with_advice("say features: \"live\" at each teacher that sees images, in its own options"))
        }
        (_, _, Some(_)) | (Some(TeacherFeaturesOption::Cached), ..) => Ok(TeacherFeatures::Cached),
        (None | Some(TeacherFeaturesOption::Auto), Some(_), _) => Ok(TeacherFeatures::Cached),
        (Some(TeacherFeaturesOption::Auto), ..) if plain => Ok(TeacherFeatures::Cached),
        (Some(_) | None, ..) => Ok(TeacherFeatures::Live),
    }
}

/// `part` is asked only where a default follows from it.
fn batch(
    given: BatchOptions,
    losses: &[TermSpec],
    labels: Labels,
    part: &mut dyn FnMut() -> Option<TrainingPart>,
) -> Result<BatchPlan> {
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
    let per_class = given.per_class.flatten().map(usize::from);
    let size = given.size.map_or_else(|| usual_batch(labels, part().as_ref(), per_class), Into::into);
    let alone = losses.iter().all(|term| term.build().sees_images_alone());
    let per_class = match given.per_class {
        Some(count) => count.map(Into::into),
        None if alone || labels == Labels::None => None,
        None => Some(usual_per_class(size, part().as_ref())),
    };
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
        let loss = term.loss.name();
        if size < 3 {
            return Err(invalid("batch.size", format!("at least 3 with {loss}"), size.to_string())
                .with_advice("this loss needs two images of one class and one of another"));
        }
        let received = per_class.map_or("null".into(), |count| count.to_string());
        let expected = format!("2 to {} with {loss}", size - 1);
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
        0 => ranks::cores(),
        threads => threads,
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
            (with("teachers", json!([{ "file": "x" }])), json!({}), "plan.teachers[0].file: there is no such option"),
            (with("teacher", json!(null)), json!({}), "plan.teacher: there is no such option"),
        ] {
            let found = stored(plan, policy).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}\nis not {expected}");
        }
    }

    /// A file of vectors beside the glyphs: a teacher that needs no run.
    fn distill(more: Value) -> Result<ResolvedRun> {
        let folder = tempfile::tempdir().unwrap();
        let teacher = folder.path().join("vectors.csv");
        std::fs::write(&teacher, "id,a,b\n").unwrap();
        let mut options = json!({ "data": "glyphs", "out": "runs/x", "teacher": teacher.display().to_string() });
        for (name, value) in more.as_object().unwrap() {
            options[name] = value.clone();
        }
        resolve(Job::Distill, &options, &|| false)
    }

    /// Folders with files of vectors, and the plan of a distillation whose options `more` makes of their places.
    fn several(files: &[&str], more: impl FnOnce(&[String]) -> Value) -> Result<ResolvedRun> {
        let folder = tempfile::tempdir().unwrap();
        let place = |file: &&str| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "id,a,b\n").unwrap();
            path.display().to_string()
        };
        let places: Vec<String> = files.iter().map(place).collect();
        let mut options = json!({ "data": "glyphs", "out": "runs/x" });
        options.as_object_mut().unwrap().extend(more(&places).as_object().unwrap().clone());
        let run = resolve(Job::Distill, &options, &|| false)?;
        let (plan, policy) = (input::write(&run.plan).unwrap(), input::write(&run.policy).unwrap());
        let again = resolve_stored(Job::Distill, &plan, &policy, "runs/x", &json!({}), &|| false).unwrap();
        assert_eq!(input::write(&again).unwrap(), input::write(&run).unwrap());
        Ok(run)
    }

    #[test]
    fn teachers_are_called_as_their_files_or_as_said_and_no_two_alike() {
        let names = |run: &ResolvedRun| -> Vec<(String, f64)> {
            run.plan.teachers.iter().map(|teacher| (teacher.name.clone(), teacher.weight)).collect()
        };
        let files = ["a/vectors.csv", "b/vectors.csv", "clip/model.csv", "dinov2/onnx/model.csv"];
        let plain = several(&files, |places| json!({ "teachers": places })).unwrap();
        let expected = ["vectors", "vectors#2", "clip", "dinov2"].map(|name| (name.to_string(), 1.0));
        assert_eq!(names(&plain), expected);
        // A name that is said comes before those that are found.
        let said = several(
            &files[..2],
            |places| json!({ "teachers": [places[0], { "model": places[1], "name": "vectors", "weight": 2.5 }] }),
        );
        assert_eq!(names(&said.unwrap()), [("vectors#2".to_string(), 1.0), ("vectors".to_string(), 2.5)]);
        let one = several(&files[..1], |places| json!({ "teacher": places[0] })).unwrap();
        let list = several(&files[..1], |places| json!({ "teachers": places })).unwrap();
        let without_place = |run: &ResolvedRun| {
            let mut plan = input::write(&run.plan).unwrap();
            plan["teachers"][0]["model"] = Value::Null;
            plan
        };
        assert_eq!(without_place(&one), without_place(&list));
    }

    #[test]
    fn what_is_wrong_about_several_teachers_is_said() {
        type More = fn(&[String]) -> Value;
        let refused = |more: More| {
            let error = several(&["a/vectors.csv", "b/vectors.csv"], more).err().unwrap();
            (error.code, error.to_string())
        };
        let cases: [(More, &[&str]); 8] = [
            (
                |places| json!({ "teacher": places[0], "teachers": places }),
                &["teachers: invalid value: expected nothing beside teacher", "put all of them into teachers"],
            ),
            (|_| json!({ "teachers": [] }), &["teacher: this option is needed"]),
            (
                |places| json!({ "teachers": places.iter().map(|model| json!({ "model": model, "name": "a" })).collect::<Vec<_>>() }),
                &["teachers[1].name: invalid value: expected a name that no other teacher has, received \"a\""],
            ),
            (
                |places| json!({ "teachers": [places[0], { "model": places[1], "weight": 0 }] }),
                &["teachers[1].weight: invalid value: expected a number greater than 0, received 0"],
            ),
            (
                |places| json!({ "teachers": places, "losses": [{ "kind": "rkd-angle", "teacher": "vector" }] }),
                &[
                    "losses[0].teacher: invalid value: expected \"vectors\" or \"vectors#2\"",
                    "Did you mean \"vectors\"?",
                ],
            ),
            (
                |places| json!({ "teachers": places, "losses": [{ "kind": "triplet-squared", "teacher": "vectors" }] }),
                &["losses[0].teacher: there is no such option"],
            ),
            (
                |places| json!({ "teachers": places, "teacherFeatures": "live" }),
                &[
                    "teacherFeatures: invalid value: expected \"cached\" with stored vectors",
                    "at each teacher that sees images",
                ],
            ),
            (
                |places| json!({ "teachers": [places[0], { "model": places[1], "features": "live" }] }),
                &["teachers[1].features: invalid value: expected \"cached\" with stored vectors"],
            ),
        ];
        for (more, parts) in cases {
            let (code, message) = refused(more);
            assert!(matches!(code, Code::InvalidOption | Code::UnknownOption), "{message}");
            parts.iter().for_each(|part| assert!(message.contains(part), "{message}\nlacks {part}"));
        }
    }

    #[test]
    fn a_resumed_run_may_have_more_epochs_unless_its_learning_rate_ends_with_them() {
        let resumed = |schedule: Value, epochs: u64| {
            let run = resolve(Job::Train, &train(json!({ "epochs": 3, "schedule": schedule })), &|| false).unwrap();
            let (plan, policy) = (input::write(&run.plan).unwrap(), input::write(&run.policy).unwrap());
            resolve_stored(Job::Train, &plan, &policy, "runs/x", &json!({ "epochs": epochs }), &|| false)
        };
        assert_eq!(resumed(json!({ "kind": "constant" }), 5).unwrap().plan.epochs, 5);
        assert_eq!(resumed(json!({ "kind": "step", "milestones": [3] }), 5).unwrap().plan.epochs, 5);
        assert_eq!(resumed(json!({ "kind": "cosine" }), 3).unwrap().plan.epochs, 3);
        let error = resumed(json!({ "kind": "cosine" }), 5).unwrap_err();
        assert_eq!(error.subject.as_deref(), Some("epochs"));
        assert!(error.to_string().contains("expected 3, as planned"), "{error}");
    }

    #[test]
    fn teachers_that_have_moved_are_found_by_name() {
        let run = several(&["a.csv", "b.csv"], |places| json!({ "teachers": places })).unwrap();
        let (plan, policy) = (input::write(&run.plan).unwrap(), input::write(&run.policy).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let places = ["a", "b"].map(|name| {
            let place = folder.path().join(format!("{name}-moved.csv"));
            std::fs::write(&place, "id,a,b\n").unwrap();
            place.display().to_string()
        });
        let resumed = |resume: Value| resolve_stored(Job::Distill, &plan, &policy, "runs/x", &resume, &|| false);
        // Their first places are gone with the folder they were in.
        let missing = resumed(json!({})).unwrap_err();
        assert!(missing.to_string().contains("option teacher (--teacher)"), "{missing}");
        let one = resumed(json!({ "teacher": { "a": places[0] } })).unwrap_err();
        assert_eq!(one.subject.as_deref(), plan["teachers"][1]["model"].as_str());
        let both = resumed(json!({ "teacher": { "b": places[1], "a": places[0] } })).unwrap().plan.teachers;
        let found: Vec<_> =
            both.iter().map(|teacher| (&teacher.name[..], teacher.model.display().to_string())).collect();
        assert_eq!(found, [("a", places[0].clone()), ("b", places[1].clone())]);
        let nameless = resumed(json!({ "teacher": places[0] })).unwrap_err().to_string();
        assert!(nameless.contains("the place of each that has moved by its name, one of a, b"), "{nameless}");
        let strange = resumed(json!({ "teacher": { "c": places[0] } })).unwrap_err().to_string();
        assert!(strange.contains("teacher.c: there is no such option: expected one of a, b"), "{strange}");
        let url = resumed(json!({ "teacher": { "a": 3 } })).unwrap_err().to_string();
        assert!(url.contains("teacher[\"a\"]") || url.contains("teacher.a"), "{url}");
    }

    fn kinds(plan: &Plan) -> Vec<(&'static str, Weight)> {
        plan.losses.iter().map(|term| (term.loss.name(), term.weight)).collect()
    }

    #[test]
    fn a_distillation_needs_a_teacher_data_and_a_folder_only() {
        let run = distill(json!({})).unwrap();
        let Plan { backbone, losses, batch, epochs, .. } = &run.plan;
        assert_eq!((&backbone.kind[..], backbone.width, backbone.embedding), ("conv4", 64, Some(64)));
        assert!(backbone.normalize, "the triplet loss assumes it");
        assert_eq!(losses, &[vec![triplet()], relations(RELATIONS_BESIDE_LABELS).into()].concat());
        assert_eq!((batch.size, batch.per_class, *epochs), (64, Some(4), 38)); // 128,000 by 70 % of 4,800 images
        assert!(run.baseline.is_none() && !run.policy.baseline);
        assert_eq!(run.policy.keep, Keep::Last);
        assert_eq!(distill(json!({ "patience": 3 })).unwrap().policy.keep, Keep::Best);

        let large = json!({ "data": { "source": "glyphs", "imageSize": 64, "labels": "none" } });
        let large = distill(large).unwrap();
        assert_eq!(large.policy.keep, Keep::Best);
        let Plan { backbone, losses, batch, epochs, .. } = large.plan;
        assert_eq!(epochs, 60); // 256,000 by 80 % of 4,800 images
        assert_eq!((&backbone.kind[..], backbone.width, backbone.embedding), ("resnet18", 32, Some(128)));
        assert_eq!((backbone.stem, backbone.normalize, batch.per_class), (Stem::Imagenet, false, None));
        assert_eq!(losses, [vec![teacher_itself()], relations(1.0).into()].concat());
    }

    #[test]
    fn a_student_without_a_kind_is_the_default_one_with_what_is_said() {
        let student = |size: u64, said: Value| {
            let plan =
                distill(json!({ "data": { "source": "glyphs", "imageSize": size }, "student": said })).unwrap().plan;
            (plan.backbone.kind, plan.backbone.width, plan.backbone.stem)
        };
        assert_eq!(student(28, json!({ "width": 16 })), ("conv4".into(), 16, Stem::Small));
        assert_eq!(student(64, json!({ "normalize": true })), ("resnet18".into(), 32, Stem::Imagenet));
        assert_eq!(student(64, json!({ "width": 16, "stem": "small" })), ("resnet18".into(), 16, Stem::Small));
        let hidden = distill(json!({ "student": { "hidden": [8] } })).err().unwrap();
        assert_eq!(hidden.subject.as_deref(), Some("student.hidden"));
    }

    #[test]
    fn a_students_embedding_is_short_unless_it_is_said_to_be_the_pooled_feature() {
        let embedding = |student: Value| distill(json!({ "student": student })).unwrap().plan.backbone.embedding;
        assert_eq!(embedding(json!({ "kind": "conv4" })), Some(64));
        assert_eq!(embedding(json!({ "kind": "resnet50" })), Some(128));
        assert_eq!(embedding(json!({ "kind": "mlp", "embedding": 32 })), Some(32));
        assert_eq!(embedding(json!({ "kind": "conv4", "embedding": null })), None);
        assert_eq!(embedding(json!({ "embedding": 32 })), Some(32));
        assert_eq!(resolve(Job::Train, &train(json!({})), &|| false).unwrap().plan.backbone.embedding, None);
    }

    #[test]
    fn a_distillation_shows_about_as_many_images_whatever_there_are() {
        let epochs = |more: Value| distill(more).unwrap().plan.epochs;
        let glyphs = |classes: u64| json!({ "data": { "source": "glyphs", "classes": classes, "writers": 20 } });
        assert_eq!(epochs(glyphs(10)), 60); // of 6 classes
        assert_eq!(epochs(glyphs(400)), 23); // 5,600 images
        assert_eq!(epochs(json!({ "data": "glyphs:classes=5000,writers=20" })), 5);
        assert_eq!(epochs(json!({ "stepsPerEpoch": 100 })), 20);
        assert_eq!(epochs(json!({ "stepsPerEpoch": 100, "batch": { "size": 128 } })), 10);
        assert_eq!(epochs(json!({ "epochs": 3 })), 3);
        assert_eq!(resolve(Job::Train, &train(json!({})), &|| false).unwrap().plan.epochs, 20);
    }

    #[test]
    fn a_batch_has_as_many_images_of_a_class_as_it_takes() {
        let per_class = |more: Value| resolve(Job::Train, &train(more), &|| false).unwrap().plan.batch.per_class;
        let data = |split: Value| json!({ "source": "glyphs:classes=10,writers=100", "split": split });
        let classes = data(json!({ "kind": "classes", "validation": 0.2, "test": 0.3 }));
        assert_eq!(per_class(json!({ "data": classes })), Some(13)); // 5 classes
        assert_eq!(per_class(json!({ "data": classes, "batch": { "size": 20 } })), Some(4));
        assert_eq!(per_class(json!({ "data": classes, "batch": { "perClass": 2 } })), Some(2));
        let images = data(json!({ "kind": "images", "validation": 0.2, "test": 0.3 }));
        assert_eq!(per_class(json!({ "data": images })), Some(7));
        let mut turned = classes;
        turned["rotations"] = true.into();
        assert_eq!(per_class(json!({ "data": turned })), Some(4));
        assert_eq!(per_class(json!({})), Some(4));
    }

    #[test]
    fn batches_follow_the_losses_inside_terms_and_few_images() {
        let alone = json!({ "kind": "linear-hint", "normalize": true });
        assert_eq!(distill(json!({ "losses": [alone] })).unwrap().plan.batch.per_class, None);
        let pairs = json!({ "losses": [{ "kind": "contrastive", "normalize": true }], "batch": { "perClass": 1 } });
        let few = json!({ "source": "glyphs:classes=5,writers=8", "labels": "none" });
        assert_eq!(distill(json!({ "data": few })).unwrap().plan.batch.size, 32); // of 40 images
        let refused = resolve(Job::Train, &train(pairs), &|| false).unwrap_err().to_string();
        assert!(refused.contains("two images of one class and one of another"), "{refused}");
    }

    #[test]
    fn a_baseline_is_the_same_student_by_labels_alone() {
        let baseline = |losses: Value| {
            let run = distill(json!({ "baseline": true, "losses": losses })).unwrap();
            assert!(run.policy.baseline);
            let alone = run.baseline.unwrap();
            assert!(alone.teachers.is_empty());
            assert_eq!(input::write(&alone.data).unwrap(), input::write(&run.plan.data).unwrap());
            assert_eq!(
                (alone.seed, alone.split_seed, alone.epochs),
                (run.plan.seed, run.plan.split_seed, run.plan.epochs)
            );
            (alone, run.plan)
        };
        let (alone, with) = baseline(json!([{ "kind": "triplet-squared", "weight": 3 }, { "kind": "rkd-angle" }]));
        assert_eq!(kinds(&alone), [("triplet-squared", Weight::Number(3.0))]);
        assert_eq!((alone.backbone, alone.batch), (with.backbone, with.batch));
        let later = json!({ "kind": "cross-entropy", "weight": { "from": 0, "to": 2, "start": 9, "steps": 1 } });
        let (alone, with) = baseline(json!([{ "kind": "hint" , "studentFeature": "pooled" }, later]));
        assert_eq!(kinds(&alone), [("cross-entropy", Weight::Number(2.0))]);
        assert_eq!(alone.backbone, with.backbone);
        for losses in [json!([{ "kind": "rkd-angle" }]), json!([{ "kind": "soft-target-kl" }])] {
            let (alone, with) = baseline(losses);
            assert_eq!(kinds(&alone), [("triplet-squared", Weight::Number(1.0))]);
            assert_eq!((alone.backbone.normalize, alone.batch.per_class), (true, Some(4)));
            assert_eq!(BackboneSpec { normalize: false, ..alone.backbone }, with.backbone);
        }
        let unlabelled = json!({ "source": "glyphs", "labels": "none" });
        let error = distill(json!({ "baseline": true, "data": unlabelled })).unwrap_err();
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("baseline")));
        let error = resolve(Job::Train, &train(json!({ "baseline": true })), &|| false).unwrap_err();
        assert_eq!(error.code, Code::UnknownOption);
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
    fn processes_that_train_together_have_micro_batches_to_share() {
        assert_eq!([64, 60, 20, 6, 3, 2].map(usual_micro_batch), [Some(8), Some(8), Some(5), Some(3), Some(2), None]);
        let of = |more: Value| resolve(Job::Train, &train(more), &|| false).unwrap();
        let run = of(json!({ "distributed": "mpi" }));
        assert_eq!(run.plan.micro_batch, Some(8));
        assert!(run.warnings[0].contains("8 micro batches of at most 8 images, so that 1, 2, 4, 8 processes"));
        assert_eq!(of(json!({ "distributed": "mpi", "microBatch": null })).plan.micro_batch, None);
        assert_eq!(of(json!({ "distributed": "none" })).plan.micro_batch, None);
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
        assert_eq!(resolve(Job::Train, &train(json!({ "device": "cuda" })), &|| false).unwrap_err().code, Code::Device);
        for device in ["cpu", "candle-cpu"] {
            let found = message(json!({ "device": device, "precision": "bf16" }));
            let expected =
                format!("precision: invalid value: expected \"float32\" on the device {device}, received \"bf16\"");
            assert!(found.contains(&expected) && found.contains("device: \"cuda\""), "{found}");
        }
        assert!(
            resolve(Job::Train, &json!([]), &|| false)
                .unwrap_err()
                .to_string()
                .contains("options: invalid value: expected an object")
        );
    }
}
