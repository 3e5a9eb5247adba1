//! Which shard a process embeds: as it was said, or as the scheduler that started the process says in the environment.
//!
//! | scheduler | index | count |
//! |---|---|---|
//! | Kubernetes, Job with `completionMode: Indexed` | `JOB_COMPLETION_INDEX` | not said |
//! | Slurm, `sbatch --array` | `SLURM_ARRAY_TASK_ID` | `SLURM_ARRAY_TASK_COUNT`, with `_MIN` and `_MAX` |
//! | AWS Batch, array job | `AWS_BATCH_JOB_ARRAY_INDEX` | `AWS_BATCH_JOB_ARRAY_SIZE` |
//! | Cloud Run job | `CLOUD_RUN_TASK_INDEX` | `CLOUD_RUN_TASK_COUNT` |
//!
//! Indices count from 0, as with all of these but Slurm, whose arrays are what their user wrote. One that begins at 1 is taken for
//! what it is; where the count is said, the ids are the indices, so that `--array=3,7` does two shards of a hundred again.
//!
//! The variables count only where shards were asked for: a process that finds them by chance embeds everything.

use super::ShardOptions;
use crate::data::Shard;
use crate::error::{Code, Error, Result};
use crate::input::{invalid, needed};

/// What a scheduler says.
struct Scheduler {
    name: &'static str,
    index: &'static str,
    count: Option<&'static str>,
}

const SLURM: &str = "Slurm";

const SCHEDULERS: [Scheduler; 4] = [
    Scheduler { name: "Kubernetes", index: "JOB_COMPLETION_INDEX", count: None },
    Scheduler { name: SLURM, index: "SLURM_ARRAY_TASK_ID", count: Some("SLURM_ARRAY_TASK_COUNT") },
    Scheduler { name: "AWS Batch", index: "AWS_BATCH_JOB_ARRAY_INDEX", count: Some("AWS_BATCH_JOB_ARRAY_SIZE") },
    Scheduler { name: "Cloud Run", index: "CLOUD_RUN_TASK_INDEX", count: Some("CLOUD_RUN_TASK_COUNT") },
];

const SAY_COUNT: &str = "say how many shards there are: --shard auto/100, in code shard: { count: 100 }";
const SAY_BOTH: &str = "say which one it is: --shard 3/100, in code shard: { index: 3, count: 100 }";

/// The shard that `options` ask for; `variable` looks into the environment.
///
/// # Errors
/// `ERR_INVALID_OPTION` for an index that is not below the count, and where the environment does not say what the options leave
/// open, or something else than they say.
pub(super) fn resolve(options: &ShardOptions, variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let (index, count) = (options.index.map(usize::from), options.count.map(usize::from));
    match (index, count) {
        (Some(index), Some(count)) if index < count => Ok(Shard { index, count }),
        (Some(index), Some(count)) => {
            Err(invalid("shard.index", below(count), index.to_string()).with_advice("shards count from 0"))
        }
        (Some(_), None) => Err(needed("shard.count").with_advice(SAY_BOTH)),
        (None, count) => scheduled(count, &variable),
    }
}

/// What an index may be.
fn below(count: usize) -> String {
    match count {
        1 => "0, as there is one shard".into(),
        _ => format!("a whole number from 0 to {}, as there are {count} shards", count - 1),
    }
}

fn scheduled(said: Option<usize>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Shard> {
    let there: Vec<&Scheduler> =
        SCHEDULERS.iter().filter(|scheduler| variable(scheduler.index).is_some_and(|text| !text.is_empty())).collect();
    let scheduler = match there[..] {
        [one] => one,
        [] => {
            let names: Vec<&str> = SCHEDULERS.iter().map(|scheduler| scheduler.index).collect();
            return Err(Error::new(Code::InvalidOption, "no scheduler says which shard this is")
                .with_subject("shard")
                .with_values(format!("one of {} in the environment", names.join(", ")), "none")
                .with_advice(SAY_BOTH));
        }
        _ => {
            let names: Vec<&str> = there.iter().map(|scheduler| scheduler.index).collect();
            return Err(Error::new(Code::InvalidOption, "several schedulers say which shard this is")
                .with_subject("shard")
                .with_values("one of them", names.join(" and "))
                .with_advice(SAY_BOTH));
        }
    };
    let number = |name: &str| {
        let text = variable(name).filter(|text| !text.is_empty());
        let parsed = text.map(|text| text.trim().parse::<usize>().map_err(|_| invalid(name, "a whole number", text)));
        parsed.transpose()
    };
    let index = number(scheduler.index)?.unwrap_or_default();
    let counted = scheduler.count.map(number).transpose()?.flatten();
    if let (Some(name), Some(0)) = (scheduler.count, counted) {
        return Err(invalid(name, "a whole number at least 1", "0"));
    }
    if scheduler.name == SLURM {
        let bounds = [number("SLURM_ARRAY_TASK_MIN")?, number("SLURM_ARRAY_TASK_MAX")?];
        return of_array(index, bounds, counted, said);
    }
    let count = match (said, counted) {
        (Some(said), Some(counted)) if said != counted => {
            return Err(invalid(
                "shard.count",
                format!("{counted}, as {} says", scheduler.count.unwrap_or_default()),
                said.to_string(),
            )
            .with_advice("leave the count out, --shard auto, or start as many tasks as there are shards"));
        }
        (Some(count), _) | (None, Some(count)) => count,
        (None, None) => {
            return Err(
                needed("shard.count").with_advice(format!("{} does not say it here; {SAY_COUNT}", scheduler.name))
            );
        }
    };
    if index < count {
        return Ok(Shard { index, count });
    }
    Err(invalid(scheduler.index, below(count), index.to_string())
        .with_advice("shards count from 0; start as many tasks as there are shards"))
}

/// The shard of task `id` in an array of Slurm with ids from `min` to `max`.
fn of_array(id: usize, [min, max]: [Option<usize>; 2], tasks: Option<usize>, said: Option<usize>) -> Result<Shard> {
    if let Some(count) = said {
        let last = max.unwrap_or(id).max(id);
        if last < count {
            return Ok(Shard { index: id, count });
        }
        return Err(invalid("SLURM_ARRAY_TASK_MAX", below(count), last.to_string()).with_advice(format!(
            "where the count is said, ids of the array are shards, which count from 0: --array=0-{}",
            count - 1
        )));
    }
    let advice = "to do some of a hundred shards again say so: --array=3,7 with --shard auto/100, which counts from 0";
    let (Some(min), Some(max), Some(tasks)) = (min, max, tasks) else {
        return Err(needed("shard.count").with_advice(SAY_COUNT));
    };
    if min <= 1 && max.checked_sub(min) == Some(tasks.wrapping_sub(1)) && (min..=max).contains(&id) {
        return Ok(Shard { index: id - min, count: tasks });
    }
    Err(invalid(
        "SLURM_ARRAY_TASK_ID",
        "an array of all ids from 0 or 1 on, without steps and gaps",
        format!("id {id} of {tasks} from {min} to {max}"),
    )
    .with_advice(advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resolved(options: Value, environment: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let options: ShardOptions = crate::input::read("shard", &options).map_err(|error| error.to_string())?;
        let variable = |name: &str| environment.iter().find(|(it, _)| *it == name).map(|(_, value)| value.to_string());
        let shard = resolve(&options, variable).map_err(|error| error.to_string())?;
        Ok((shard.index, shard.count))
    }

    const AWS: [(&str, &str); 2] = [("AWS_BATCH_JOB_ARRAY_INDEX", "7"), ("AWS_BATCH_JOB_ARRAY_SIZE", "10")];
    const CLOUD_RUN: [(&str, &str); 2] = [("CLOUD_RUN_TASK_INDEX", "9"), ("CLOUD_RUN_TASK_COUNT", "10")];

    fn slurm<'a>(id: &'a str, min: &'a str, max: &'a str, count: &'a str) -> [(&'static str, &'a str); 4] {
        [
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ]
    }

    #[test]
    fn what_is_said_counts_whatever_the_environment_says() {
        assert_eq!(resolved(json!({ "index": 3, "count": 100 }), &CLOUD_RUN), Ok((3, 100)));
        assert_eq!(resolved(json!({ "index": 0, "count": 1 }), &[]), Ok((0, 1)));
    }

    #[test]
    fn each_scheduler_says_which_shard_it_is() {
        let kubernetes = [("JOB_COMPLETION_INDEX", "5")];
        assert_eq!(resolved(json!({ "count": 8 }), &kubernetes), Ok((5, 8)));
        assert_eq!(resolved(json!({}), &AWS), Ok((7, 10)));
        assert_eq!(resolved(json!({ "count": 10 }), &AWS), Ok((7, 10)));
        assert_eq!(resolved(json!({}), &CLOUD_RUN), Ok((9, 10)));
        assert_eq!(resolved(json!({}), &slurm("0", "0", "9", "10")), Ok((0, 10)));
        assert_eq!(resolved(json!({}), &slurm("10", "1", "10", "10")), Ok((9, 10)));
        // Some of an array again.
        assert_eq!(resolved(json!({ "count": 100 }), &slurm("7", "3", "7", "2")), Ok((7, 100)));
        // A variable that is set to nothing says nothing.
        let empty = [("JOB_COMPLETION_INDEX", ""), CLOUD_RUN[0], CLOUD_RUN[1]];
        assert_eq!(resolved(json!({}), &empty), Ok((9, 10)));
    }

    #[test]
    fn what_does_not_add_up_is_refused_with_the_way_out() {
        let both = [AWS[0], AWS[1], CLOUD_RUN[0], CLOUD_RUN[1]];
        type Case<'a> = (Value, &'a [(&'a str, &'a str)], &'a str);
        let none = [("CLOUD_RUN_TASK_INDEX", "0"), ("CLOUD_RUN_TASK_COUNT", "0")];
        let table: [Case<'_>; 16] = [
            (json!({}), &none, "CLOUD_RUN_TASK_COUNT: invalid value: expected a whole number at least 1, received 0"),
            (json!({ "index": 4, "count": 3 }), &[], "shard.index: invalid value: expected a whole number from 0 to 2"),
            (json!({ "index": 1, "count": 1 }), &[], "expected 0, as there is one shard, received 1"),
            (json!({ "index": 0, "count": 0 }), &[], "shard.count: invalid value: expected a whole number at least 1"),
            (json!({ "count": 100_000 }), &CLOUD_RUN, "at most 99999"),
            (json!({ "index": 3 }), &CLOUD_RUN, "shard.count: this option is needed"),
            (json!({ "count": 3 }), &[], "no scheduler says which shard this is"),
            (json!({}), &[], "Say which one it is: --shard 3/100"),
            (json!({}), &both, "AWS_BATCH_JOB_ARRAY_INDEX and CLOUD_RUN_TASK_INDEX"),
            (json!({}), &[("JOB_COMPLETION_INDEX", "5")], "Kubernetes does not say it here; say how many"),
            (json!({ "count": 5 }), &[("JOB_COMPLETION_INDEX", "5")], "from 0 to 4, as there are 5 shards, received 5"),
            (json!({ "count": 5 }), &[("JOB_COMPLETION_INDEX", "five")], "JOB_COMPLETION_INDEX: invalid value"),
            (json!({ "count": 11 }), &CLOUD_RUN, "expected 10, as CLOUD_RUN_TASK_COUNT says, received 11"),
            (json!({}), &slurm("7", "3", "7", "2"), "--array=3,7 with --shard auto/100"),
            (json!({}), &slurm("0", "0", "8", "5"), "without steps and gaps, received id 0 of 5 from 0 to 8"),
            (json!({ "count": 100 }), &slurm("4", "1", "100", "100"), "--array=0-99"),
        ];
        for (options, environment, part) in table {
            let text = resolved(options.clone(), environment).unwrap_err();
            assert!(text.contains(part), "{options}: {text}");
        }
    }
}
