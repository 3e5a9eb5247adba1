//! Several ranks against one: the same bytes, and errors that reach all. Ranks are threads here; `mpi.rs` has processes.

mod run;
mod threads;

use std::fs;
use std::sync::{Arc, Mutex};

use rkd_core::losses::{Loss, LossInputs, Matrix, RkdAngle};
use rkd_core::nn::tuning::TrainingStatistics;
use rkd_core::random::Random;
use rkd_core::ranks::Ranks;
use rkd_core::train::report::Evaluation;
use rkd_core::train::together::end;
use rkd_core::train::{Control, EvaluatePlan, Event, Plan, Start, follow, lead, lead_evaluation, open};
use rkd_core::{Code, Error};
use rkd_kernels::{Team, relations};
use run::{distillation, plan, run};
use serde_json::json;
use threads::on;

#[test]
fn what_ranks_have_is_gathered_in_their_order() {
    let found = on(3, |ranks| ranks.gather(&vec![ranks.rank() as u8; ranks.rank() * 2]).unwrap());
    assert!(found.iter().all(|all| *all == [vec![], vec![1, 1], vec![2, 2, 2, 2]]));
    let found = on(3, |ranks| ranks.broadcast(vec![ranks.rank() as u8 + 7; 3 - ranks.rank()]).unwrap());
    assert!(found.iter().all(|bytes| *bytes == [7, 7, 7]));
}

#[test]
fn a_message_longer_than_one_of_the_transport_arrives() {
    let length = |rank: usize| (1 << 24) + 1000 * rank;
    let found = on(2, |ranks| {
        let all = ranks.gather(&vec![ranks.rank() as u8 + 1; length(ranks.rank())]).unwrap();
        all.iter()
            .enumerate()
            .all(|(rank, bytes)| bytes.len() == length(rank) && bytes.iter().all(|&b| b == rank as u8 + 1))
    });
    assert_eq!(found, [true; 2]);
}

#[test]
fn sums_follow_the_tree() {
    // One is lost beside 2^24: (large + 1) + (-large + 1) is 1, and in order it is 1 + ... of another value.
    let values = [16_777_216.0, 1.0, -16_777_216.0, 1.0];
    let found = on(4, |ranks| {
        let mut sum = vec![values[ranks.rank()], 0.5];
        ranks.sum(&mut sum).unwrap();
        sum
    });
    let expected = (values[0] + values[1]) + (values[2] + values[3]);
    assert_eq!(found, vec![vec![expected, 2.0]; 4]);
}

#[test]
fn an_error_of_one_rank_is_that_of_all_at_their_next_call() {
    let errors = on(3, |ranks| {
        let work = || match ranks.rank() {
            1 => Err(Error::new(Code::Io, "the disk is full").with_subject("a.bin")),
            _ => ranks.sum(&mut [1.0]),
        };
        let first = ranks.together(work).unwrap_err();
        // They are at one place again.
        assert_eq!(ranks.gather(&[1]).unwrap().len(), 3);
        (first.code, first.to_string())
    });
    let expected = |text: &str| (Code::Io, text.to_string());
    assert_eq!(errors[1], expected("a.bin: the disk is full"));
    assert_eq!([&errors[0], &errors[2]], [&expected("a.bin: rank 1 on here: the disk is full"); 2]);
}

#[test]
fn ranks_that_differ_are_named_with_what_differs() {
    let errors = on(3, |ranks| {
        let isa = if ranks.rank() == 2 { "avx2" } else { "avx512" };
        let things = [("version", "1".into(), "update"), ("instruction set", isa.into(), "set RKD_ISA")];
        ranks.together(|| ranks.check_same(&things)).unwrap_err().to_string()
    });
    let expected = "rank 2 on here differs from rank 0 in its instruction set: expected avx512 (rank 0 on here), received \
                    avx2. Set RKD_ISA";
    assert_eq!(errors, [expected; 3]);
}

#[test]
fn what_a_machine_has_once_its_first_rank_makes() {
    let made = Mutex::new(Vec::new());
    let failing = on(3, |ranks| {
        let makes = || {
            made.lock().unwrap().push(ranks.rank());
            Ok(())
        };
        ranks.together(|| ranks.in_turn(makes)).unwrap();
        let fails = || Err::<(), _>(Error::new(Code::InvalidData, "no images"));
        ranks.together(|| ranks.in_turn(fails)).unwrap_err().to_string()
    });
    assert_eq!(made.lock().unwrap()[0], 0);
    assert_eq!(failing, ["no images", "rank 0 on here: no images", "rank 0 on here: no images"]);
}

#[test]
fn the_same_plan_gives_the_same_model_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    // Also what training leaves out at random.
    let plan = plan(folder.path(), json!({ "tuning": { "dropout": 0.3 } }));
    let on = |size| on(size, |ranks| run(ranks, &plan, folder.path(), false, 6)).swap_remove(0).unwrap().unwrap();
    let one = on(1);
    for size in [2, 4, 8] {
        let several = on(size);
        assert!(several == one, "{size} ranks: {:?} and {:?}", several.evaluations, one.evaluations);
    }
}

#[test]
fn a_distillation_stops_and_goes_on_with_other_ranks_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = distillation(folder.path());
    let on = |size, resumes, until| {
        on(size, |ranks| run(ranks, &plan, folder.path(), resumes, until)).swap_remove(0).unwrap().unwrap()
    };
    let one = on(1, false, 6);
    assert_eq!(one.evaluations.len(), 2);
    on(4, false, 2);
    on(1, true, 4);
    let last = on(2, true, 6);
    assert!(last.model == one.model && last.evaluations == one.evaluations);
}

#[test]
fn synchronised_normalisation_gives_the_same_model_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let on = |plan: &Plan, size| {
        on(size, |ranks| run(ranks, plan, folder.path(), false, 3)).swap_remove(0).unwrap().unwrap()
    };
    // Plain layers with pools behind them; blocks, and depthwise convolutions behind normalisations.
    for kind in ["conv4", "mobilenet-v2"] {
        let with = |statistics: &str, micro_batch: usize| {
            let mut plan =
                plan(folder.path(), json!({ "tuning": { "batchNorm": statistics }, "microBatch": micro_batch }));
            plan.backbone.kind = kind.into();
            plan
        };
        let one = on(&with("sync", 2), 1);
        for size in [2, 4, 8] {
            let several = on(&with("sync", 2), size);
            assert!(several == one, "{kind}, {size} ranks: {:?} and {:?}", several.loss, one.loss);
        }
        // What is trained does not hang on the micro batches, but for rounding; by statistics of each it does.
        let off = |other: f64| (other - one.loss).abs() / one.loss;
        let (larger, apart) = (on(&with("sync", 8), 1).loss, on(&with("batch", 2), 1).loss);
        assert!(off(larger) < 1e-3 && off(apart) > 1e-2, "{kind}: {} {larger} {apart}", one.loss);
    }
}

#[test]
fn a_synchronised_distillation_stops_and_goes_on_with_other_ranks_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = distillation(folder.path());
    plan.tuning.batch_norm = TrainingStatistics::Sync;
    let on = |size, resumes, until| {
        on(size, |ranks| run(ranks, &plan, folder.path(), resumes, until)).swap_remove(0).unwrap().unwrap()
    };
    let one = on(1, false, 6);
    on(4, false, 2);
    on(1, true, 4);
    let last = on(2, true, 6);
    assert!(last.model == one.model && last.evaluations == one.evaluations);
}

#[test]
fn a_stored_model_is_measured_on_all_ranks_with_the_numbers_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = "glyphs:classes=12,writers=40";
    let trained = |name: &str, seed: u64| {
        let mut plan = plan(folder.path(), json!({ "seed": seed }));
        plan.data.source = source.into();
        let silent = Control::silent();
        let mut session = open(plan.clone(), &Start::default(), &silent).unwrap();
        session.train(1, &silent).unwrap();
        session.save_model(&folder.path().join(name), false).unwrap();
        plan
    };
    trained("teacher", 3);
    let plan = trained("model", 1);
    let teacher = json!({ "name": "other", "weight": 1, "model": folder.path().join("teacher"), "features": "cached" });
    let measured: EvaluatePlan = serde_json::from_value(json!({
        "model": folder.path().join("model"), "data": plan.data, "part": "test", "ks": [1, 2], "seed": 1, "threads": 1,
        "split": { "seed": 1, "given": [false, false], "own": true, "acceptChangedData": false }, "teachers": [teacher],
    }))
    .unwrap();
    // What each rank finds, and how many images it has embedded for the model and for the teacher.
    let measure = |size: usize| {
        // Else the teacher's answers are there.
        fs::remove_dir_all(folder.path().join("cache")).unwrap();
        on(size, |ranks| {
            let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
            let sink = Arc::clone(&heard);
            let control = Control::new(move |event| {
                if let Event::Embed { done, total } = event
                    && done == total
                {
                    sink.lock().unwrap().push(total);
                }
            });
            let mut found = None;
            if ranks.is_first() {
                let evaluation = lead_evaluation(ranks, &measured, &control).unwrap();
                found = Some(Evaluation { milliseconds_per_image: 0.0, ..evaluation });
                end(ranks, json!({})).unwrap();
            } else {
                follow(ranks, || Ok(None), &control).unwrap();
            }
            (found, heard.lock().unwrap().clone())
        })
    };
    let one = measure(1).swap_remove(0);
    let images = one.0.as_ref().unwrap().images as u64;
    assert_eq!(one.1, [images; 2]);
    assert!(!one.0.as_ref().unwrap().fidelity.is_empty());
    // Whole batches of 64 to each.
    for (size, shares) in [(2, vec![128, images - 128]), (4, vec![64, 64, 64, images - 192])] {
        let several = measure(size);
        assert!(several[0].0 == one.0, "{size} ranks: {:?} and {:?}", several[0].0, one.0);
        let found: Vec<Vec<u64>> = several.into_iter().map(|(_, heard)| heard).collect();
        assert_eq!(found, shares.iter().map(|&share| vec![share; 2]).collect::<Vec<_>>(), "{size} ranks");
    }
}

#[test]
fn ranks_ask_a_teacher_about_a_share_each() {
    let folder = tempfile::tempdir().unwrap();
    let plan = distillation(folder.path());
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    let asked = on(4, |ranks| {
        let heard: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let sink = Arc::clone(&heard);
        let control = Control::new(move |event| {
            if let Event::TeacherFeatures { done, total } = event {
                sink.lock().unwrap().push((done, total));
            }
        });
        if ranks.is_first() {
            drop(lead(ranks, plan.clone(), &Start::default(), &control).unwrap());
            end(ranks, json!({})).unwrap();
        } else {
            follow(ranks, || Ok(Some(plan.clone())), &control).unwrap();
        }
        heard.lock().unwrap().clone()
    });
    // 7 classes of 8 images, mirrored too: one batch a side, which is one rank's; the others have heard of none.
    assert_eq!(asked.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 2], "{asked:?}");
    assert!(asked[3].iter().all(|&(_, total)| total == 112), "{asked:?}");
}

#[test]
fn angles_of_many_items_are_the_same_bits_on_any_number_of_ranks() {
    let n = 1100;
    let draw = |purpose: &str, d: usize| {
        let mut random = Random::keyed(5, 0, 0, purpose);
        let values: Vec<f32> = (0..n * d).map(|_| random.normal() as f32).collect();
        Matrix::new(purpose, &values, n, d).unwrap()
    };
    let (student, teacher) = (draw("student", 3), draw("teacher", 4));
    let team = Team::new(1);
    let angle = RkdAngle { delta: 0.3, ..RkdAngle::default() };
    let evaluate = |ranks: &Ranks| {
        let random = Random::keyed(0, 0, 0, "loss");
        let inputs = LossInputs::new(&student, &team, random).with_teacher(&teacher).on(ranks.clone());
        angle.evaluate(&inputs).unwrap()
    };
    let one = evaluate(&Ranks::one());
    for size in [2, 3, 8] {
        for several in on(size, evaluate) {
            assert!(several.value == one.value && several.gradient == one.gradient, "{size} ranks");
        }
    }
    // What the kernel finds in one.
    let squared = [(&student, 3), (&teacher, 4)].map(|(matrix, d)| {
        let wide = relations::widen(&matrix.data[..], n, d);
        relations::squared_distances(&team, &wide, n, d)
    });
    let whole = relations::angle_huber(&team, &squared[0], &squared[1], n, 0.3).value / (n as f64).powi(3);
    assert!((one.value - whole).abs() < 1e-12 * whole && whole > 0.0, "{} {whole}", one.value);
}

#[test]
fn all_ranks_stop_at_the_step_at_which_one_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), json!({}));
    let found = on(2, |ranks| {
        if !ranks.is_first() {
            follow(ranks, || Ok(None), &Control::silent()).unwrap();
            return Vec::new();
        }
        let (asked, silent) = (Control::silent(), Control::silent());
        let mut session = lead(ranks, plan.clone(), &Start::default(), &silent).unwrap();
        asked.cancel();
        let reports = [session.train(6, &asked).unwrap(), session.train(3, &silent).unwrap()];
        drop(session);
        end(ranks, json!({})).unwrap();
        reports.map(|report| (report.step, report.cancelled)).to_vec()
    });
    assert_eq!(found[0], [(1, true), (3, false)]);
}

#[test]
fn ranks_that_a_batch_cannot_be_shared_out_over_are_told_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let message = |size: usize, micro_batch: serde_json::Value| {
        let plan = plan(folder.path(), json!({ "microBatch": micro_batch }));
        on(size, |ranks| run(ranks, &plan, folder.path(), false, 1)).swap_remove(0).unwrap_err().to_string()
    };
    let one = message(4, json!(null));
    let expected = "microBatch: the batch's one micro batch cannot be shared out over the ranks: expected 1 rank, received 4 ranks. \
                    Choose micro batches of 4 images";
    assert!(one.starts_with(expected), "{one}");
    let three = message(3, json!(2));
    assert!(three.contains("expected 1, 2, 4, 8 ranks, received 3 ranks. Choose micro batches of 6 images"), "{three}");
}

#[test]
fn a_rank_with_another_plan_or_without_the_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), json!({}));
    let led = |change: fn(&mut Plan)| {
        let mut other = plan.clone();
        change(&mut other);
        let found = on(2, |ranks| match ranks.rank() {
            0 => {
                let found = lead(ranks, plan.clone(), &Start::default(), &Control::silent()).map(drop);
                end(ranks, json!({ "error": {} })).unwrap();
                found.unwrap_err()
            }
            _ => {
                let outcome = follow(ranks, || Ok(Some(other.clone())), &Control::silent()).unwrap();
                assert_eq!(outcome, json!({ "error": {} }));
                Error::new(Code::Internal, "the first rank tells")
            }
        });
        let first = found.into_iter().next().unwrap();
        (first.code, first.to_string())
    };
    let (code, text) = led(|plan| plan.seed = 7);
    assert_eq!(code, Code::RanksDiffer);
    assert!(
        text.contains("rank 1 on here differs from rank 0 in its plan") && text.contains("received seed: 7"),
        "{text}"
    );
    let (code, text) = led(|plan| plan.data.source = "no-such-folder".into());
    assert_eq!(code, Code::NotFound);
    assert!(text.contains("rank 1 on here: "), "{text}");
    let (code, text) = led(|plan| plan.data.source = "glyphs:classes=11,writers=8".into());
    assert_eq!(code, Code::RanksDiffer);
    assert!(text.contains("differs from rank 0 in its data"), "{text}");
}
