use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use rkd_core::data::*;
fn median(v: &mut Vec<f64>) -> f64 { v.sort_by(f64::total_cmp); v[v.len() / 2] }
fn walk(dir: &std::path::Path, out: &mut Vec<Vec<u8>>, want: usize) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect(); entries.sort();
    for p in entries { if out.len() >= want { return }
        if p.is_dir() { walk(&p, out, want) } else if p.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg")) { out.push(std::fs::read(p).unwrap()) } }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "jpeg" {
        let mut files = Vec::new(); walk(std::path::Path::new(&args[2]), &mut files, args[3].parse().unwrap());
        let mut d = Decoder::new(64, 3); let mut out = vec![0; 64*64*3];
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..15 { for side in [round % 2 == 0, round % 2 == 1] {
            decode::TMP_SKIP.store(side, Ordering::Relaxed);
            let t = Instant::now(); let mut ok = 0;
            for f in &files { if d.decode(f, &mut out).is_ok() { ok += 1 } }
            let s = t.elapsed().as_secs_f64(); assert!(ok > 0);
            if side { without.push(s) } else { with.push(s) } } }
        let (a, b) = (median(&mut with), median(&mut without));
        let bytes: usize = files.iter().map(Vec::len).sum();
        println!("{}: {} files, {} bytes each; with {:.1} us an image, without {:.1}; walk {:.2} % of the whole", args[2], files.len(), bytes / files.len(), a*1e6/files.len() as f64, b*1e6/files.len() as f64, 100.0*(a-b)/a);
    } else {
        let plan: DataPlan = serde_json::from_value(serde_json::json!({"source": "glyphs:classes=3000,writers=20", "imageSize": 64, "channels": 3, "cache": args[2], "split": {"kind": "images", "validation": 0, "test": 0}, "augment": {"cropPadding": 4, "flip": true}})).unwrap();
        let dataset = Arc::new(Dataset::open(&plan, &|| false, &mut |_| ()).unwrap());
        let n = dataset.len() as u32;
        let mut read = Vec::new(); let mut sum = 0u64;
        for _ in 0..9 { let t = Instant::now(); for i in 0..n { sum += u64::from(dataset.pixels(i.wrapping_mul(7919) % n)[5]); } read.push(t.elapsed().as_secs_f64()); }
        let items: Vec<u32> = (0..n).collect();
        let normalization = Normalization::measure(&dataset, &items[..100]);
        let (mut crop, mut affine) = (Vec::new(), Vec::new());
        for round in 0..6 {
            let spec = if round % 2 == 0 { plan.augment.clone() } else { serde_json::from_value(serde_json::json!({"rotate": 10, "scale": 0.1, "shear": 5, "translate": 0.05})).unwrap() };
            let batch = BatchPlan { size: 64, per_class: None, episode: None };
            let sampler = BatchSampler::new(&dataset, &items, &batch, None, 1).unwrap();
            let batches = sampler.batches();
            let view = View { dataset: Arc::clone(&dataset), normalization: normalization.clone() };
            let mut loader = Loader::new(view, None, sampler, spec, LoaderOptions::default()).unwrap();
            let t = Instant::now();
            for _ in 0..batches { let b = loader.next().unwrap(); loader.recycle(b); }
            let s = t.elapsed().as_secs_f64() / (batches * 64) as f64 * 1e6;
            if round % 2 == 0 { crop.push(s) } else { affine.push(s) }
        }
        println!("{n} images; pread + Vec {:.2} us an image; batch crop-flip {:.2} us, affine {:.2} us ({sum})", median(&mut read)*1e6/f64::from(n), median(&mut crop), median(&mut affine));
    }
}
