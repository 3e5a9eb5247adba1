//! Which of some words was probably meant: for errors about a name that is not there.

/// The `choices` nearest to `word`, best first, at most `count` of them.
pub(crate) fn nearest<'a>(word: &str, choices: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = choices.map(|choice| (distance(word, choice), choice)).collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(count).map(|(_, choice)| choice).collect()
}

/// What of `choices` was probably meant by `word`: the name of the same letters, what other libraries call `word`, or the
/// name near enough for a slip of the fingers, in this order. Where a choice holds what was meant, the name has its path:
/// `"batch.size"`.
pub fn likely(word: &str, choices: &[&str]) -> Option<String> {
    let word = letters(word);
    if let Some(same) = choices.iter().find(|choice| letters(choice) == word) {
        return Some(same.to_string());
    }
    let elsewhere = OTHER_NAMES.iter().filter(|(ours, others)| others.contains(&&*word) || letters(last(ours)) == word);
    if let Some(ours) = elsewhere.filter_map(|(ours, _)| from_choice(ours, choices)).next() {
        return Some(ours.into());
    }
    let slip = |name: &str| distance(&word, &letters(name)) <= (name.len() / 3).max(1);
    let near = choices.iter().min_by_key(|choice| distance(&word, &letters(choice)))?;
    if slip(near) {
        return Some(near.to_string());
    }
    // Short names are near to everything.
    let mut near = OTHER_NAMES.iter().filter(|(_, others)| others.iter().any(|other| other.len() > 4 && slip(other)));
    near.find_map(|(ours, _)| from_choice(ours, choices)).map(Into::into)
}

/// The end of the path `ours` that begins with one of `choices`.
fn from_choice<'a>(ours: &'a str, choices: &[&str]) -> Option<&'a str> {
    let starts = std::iter::once(0).chain(ours.match_indices('.').map(|(dot, _)| dot + 1));
    starts.map(|start| &ours[start..]).find(|end| choices.contains(&end.split('.').next().unwrap_or_default()))
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// `word` without hyphens, underscores, capitals and the word "loss" at its end.
fn letters(word: &str) -> String {
    let letters: String = word.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    match letters.strip_suffix("loss") {
        Some(rest) if !rest.is_empty() => rest.into(),
        _ => letters,
    }
}

/// Options and kinds by what PyTorch, its companions and papers call them, the other names as [`letters`] has them.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("optimizer.learningRate", &["lr", "eta", "stepsize", "baselr"]),
    ("optimizer.weightDecay", &["wd", "l2"]),
    ("optimizer.momentum", &[]),
    ("optimizer.beta1", &["betas"]),
    ("optimizer.epsilon", &["eps"]),
    ("batch.size", &["batchsize", "bs", "trainbatchsize", "perdevicetrainbatchsize"]),
    ("batch.perClass", &["samplesperclass", "imagesperclass", "numinstances", "instances", "k", "m"]),
    ("batch.episode", &["way", "shot", "nway", "kshot"]),
    ("microBatch", &["gradientaccumulationsteps", "accumulategradbatches", "accumulationsteps", "accumsteps"]),
    ("prefixes", &["matryoshka", "matryoshkadims", "nestinglist", "nesting", "mrl"]),
    ("epochs", &["numepochs", "nepochs", "maxepochs", "numtrainepochs", "nepoch"]),
    ("stepsPerEpoch", &["iterationsperepoch", "itersperepoch", "limittrainbatches", "maxsteps", "numsteps"]),
    ("schedule.warmupSteps", &["warmup", "warmupepochs", "numwarmupsteps"]),
    ("schedule", &["scheduler", "lrscheduler", "lrschedule"]),
    ("schedule.milestones", &["stepsizes", "lrdecayepochs", "decayepochs"]),
    ("schedule.factor", &["gamma", "lrdecayrate"]),
    (
        "clipGradientNorm",
        &["clipgrad", "clipgradnorm", "maxgradnorm", "gradclip", "gradientclipval", "clipnorm", "clip"],
    ),
    ("patience", &["earlystopping", "earlystoppingpatience"]),
    ("evaluation.everyEpochs", &["evalinterval", "validateevery", "checkvaleverynepoch", "evalevery"]),
    ("evaluation.ks", &["recallat", "topk"]),
    ("checkpointEverySteps", &["saveevery", "savesteps", "checkpointevery", "savefreq"]),
    ("seed", &["randomseed", "manualseed", "randomstate", "rngseed"]),
    ("threads", &["numworkers", "workers", "numthreads", "nworkers", "njobs"]),
    ("device", &["gpu", "cuda", "accelerator"]),
    ("cuda", &["gpu", "cuda0", "nvidia"]),
    ("out", &["output", "outdir", "outputdir", "savedir", "savepath", "logdir", "resultsdir", "workdir", "outfolder"]),
    ("overwrite", &["force", "overwriteoutputdir"]),
    ("losses", &["loss", "criterion", "lossfn", "objective"]),
    ("weights", &["pretrained", "pretrainedweights", "checkpoint", "init", "initweights", "statedict"]),
    ("freeze", &["frozen", "freezelayers"]),
    ("dropout", &["droprate", "dropoutrate", "dropoutp"]),
    ("dropPath", &["droppathrate", "stochasticdepth", "stochasticdepthprob", "dropconnect", "dropconnectrate"]),
    ("teacher", &["teachermodel", "teacherpath", "teachercheckpoint"]),
    ("student", &["studentmodel", "backbone", "model", "net", "network", "arch", "architecture"]),
    ("backbone", &["student", "model", "net", "network", "arch", "architecture", "encoder"]),
    ("model", &["checkpoint", "weights", "run", "network", "net"]),
    ("student.embedding", EMBEDDINGS),
    ("backbone.embedding", EMBEDDINGS),
    ("data", &["dataset", "datadir", "dataroot", "datapath", "root", "images", "traindata", "traindir"]),
    ("data.source", &["path", "folder", "root", "dir", "directory"]),
    ("data.imageSize", &["imgsize", "inputsize", "resolution", "size", "imgsz", "resize"]),
    ("data.channels", &["inchannels", "numchannels", "inchans"]),
    ("data.augment", &["transform", "transforms", "augmentation", "augmentations", "aug"]),
    ("data.split", &["valsplit", "validationsplit", "splits"]),
    ("validation", &["val", "valid", "valsize", "valshare", "valratio"]),
    ("test", &["testsize", "testshare", "testratio"]),
    ("temperature", &["t", "temp", "tau"]),
    ("weight", &["lambda", "coefficient", "lossweight", "scale", "ratio"]),
    ("margin", &["m"]),
    ("rkd-distance", &["rkd", "rkdd", "distance", "relational", "dist"]),
    ("rkd-angle", &["rkda", "angle"]),
    ("hard-dark-rank", &["darkrank", "rank"]),
    ("similarity-preserving", &["sp", "spkd", "similarity"]),
    ("correlation-congruence", &["cc", "cckd", "correlation"]),
    ("triplet-squared", &["triplet"]),
    ("triplet-euclidean", &["tripletmargin"]),
    ("n-pairs", &["npair"]),
    ("cross-entropy", &["ce", "softmax", "nll"]),
    ("soft-target-kl", &["kd", "kl", "kldiv", "hinton", "softtarget", "softtargets", "st"]),
    ("attention-transfer", &["at", "attention"]),
    ("hint", &["fitnet", "fitnets"]),
    ("feature-regression", &["mse", "l2", "regression"]),
    ("prototypical", &["proto", "protonet", "prototype"]),
    ("cosine", &["cosineannealing", "cosineannealinglr"]),
    ("step", &["multistep", "multisteplr", "steplr"]),
    ("constant", &["none", "constantlr"]),
];

const EMBEDDINGS: &[&str] =
    &["embeddingsize", "embeddingdim", "embedsize", "embeddim", "embdim", "embdims", "outdim", "featuredim", "dim"];

/// Number of letters to insert, delete or replace to come from `a` to `b` (Levenshtein 1966).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for j in 0..b.len() {
            let replaced = diagonal + usize::from(b[j] != letter);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("leyer1", ["layer2", "fc", "layer1"].into_iter(), 2), ["layer1", "layer2"]);
    }

    #[test]
    fn names_of_the_field_lead_to_ours() {
        let kinds = crate::losses::LossSpec::KINDS;
        for (word, meant) in [
            ("rkd_angle", "rkd-angle"),
            ("rkdAngle", "rkd-angle"),
            ("RKDAngleLoss", "rkd-angle"),
            ("rkd-angles", "rkd-angle"),
            ("triplet", "triplet-squared"),
            ("tripet", "triplet-squared"),
            ("TripletMarginLoss", "triplet-euclidean"),
            ("CrossEntropyLoss", "cross-entropy"),
            ("kd", "soft-target-kl"),
        ] {
            assert_eq!(likely(word, kinds).as_deref(), Some(meant), "{word}");
        }
        assert_eq!(likely("huber", kinds), None);
        let options = crate::input::fields_of::<crate::options::RunOptions>();
        for (word, meant) in [
            ("lr", "optimizer.learningRate"),
            ("learning_rate", "optimizer.learningRate"),
            ("batch_size", "batch.size"),
            ("perClass", "batch.perClass"),
            ("weight_decay", "optimizer.weightDecay"),
            ("momentum", "optimizer.momentum"),
            ("num_epochs", "epochs"),
            ("epohcs", "epochs"),
        ] {
            assert_eq!(likely(word, options).as_deref(), Some(meant), "{word}");
        }
        assert_eq!(likely("lr", &["learningRate", "beta1"]).as_deref(), Some("learningRate"));
    }

    /// A name that is none would be a suggestion that is refused.
    #[test]
    fn every_name_of_the_table_is_there() {
        use crate::{input::fields_of, losses, optim, options};
        let optimizer = ["learningRate", "weightDecay", "momentum", "beta1", "epsilon"];
        let schedule = ["warmupSteps", "milestones", "factor"];
        let known: Vec<&str> = [
            fields_of::<options::RunOptions>(),
            fields_of::<options::BatchOptions>(),
            fields_of::<options::EvaluationOptions>(),
            fields_of::<options::BackboneOptions>(),
            fields_of::<options::DataOptions>(),
            fields_of::<options::EvaluateOptions>(),
            fields_of::<losses::TermOptions>(),
            losses::LossSpec::KINDS,
            optim::ScheduleSpec::KINDS,
            &optimizer,
            &schedule,
            &["temperature", "margin", "validation", "test", "cuda"],
        ]
        .concat();
        for (ours, others) in OTHER_NAMES {
            assert!(ours.split('.').all(|name| known.contains(&name)), "{ours}");
            assert!(others.iter().all(|other| *other == "loss" || *other == letters(other)), "{others:?}");
        }
        let given = |text: serde_json::Value| crate::input::read::<optim::OptimizerSpec>("", &text).is_ok();
        assert!(given(
            serde_json::json!({ "kind": "adam", "learningRate": 1, "weightDecay": 0, "beta1": 0, "epsilon": 1 })
        ));
        assert!(given(serde_json::json!({ "kind": "sgd", "momentum": 0 })));
        let step = serde_json::json!({ "kind": "step", "milestones": [1], "warmupSteps": 0, "factor": 0.1 });
        assert!(crate::input::read::<optim::ScheduleSpec>("", &step).is_ok());
    }
}
