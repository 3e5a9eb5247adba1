//! The drawn characters: deterministic, different, and on the paper.

use rkd_core::Code;
use rkd_core::data::glyphs::GlyphSpec;

use crate::data::common::{Place, open, plan, says};

fn draw(spec: &GlyphSpec, class: usize, writer: usize, size: usize) -> Vec<u8> {
    let mut out = vec![0; size * size];
    spec.draw(class, writer, size, 1, &mut out);
    out
}

#[test]
fn options_are_read_and_checked() {
    assert_eq!(GlyphSpec::parse("glyphs").unwrap(), GlyphSpec::default());
    let spec = GlyphSpec::parse("glyphs:classes=400,writers=8,seed=7").unwrap();
    assert_eq!(spec, GlyphSpec { classes: 400, writers: 8, seed: 7 });
    assert_eq!(GlyphSpec::parse(&spec.to_string()).unwrap(), spec);
    for (text, expected) in [
        ("glyphs:classes=1", "classes=2 to classes=10000"),
        ("glyphs:writer=3", "classes=, writers= or seed="),
        ("glyphs:seed=x", "seed=0"),
    ] {
        let error = GlyphSpec::parse(text).unwrap_err();
        assert_eq!(error.code, Code::InvalidOption);
        says(&error, &[text, expected, "Write for example"]);
    }
}

#[test]
fn a_data_set_of_glyphs_needs_no_file() {
    let place = Place::new();
    let data = open(&plan("glyphs:classes=12,writers=3", &place.cache())).unwrap();
    assert_eq!((data.len(), data.classes()), (36, 12));
    assert_eq!(data.id(35), "character0011/writer0002");
    assert!(data.is_ink() && !data.has_own_split());
    let spec = GlyphSpec::parse("glyphs").unwrap();
    assert_eq!(data.pixels(35), draw(&spec, 11, 2, 8), "an image depends on nothing but seed, class, writer and size");
}

#[test]
fn every_glyph_has_ink_and_black_edges() {
    let spec = GlyphSpec::default();
    for class in 0..spec.classes {
        let image = draw(&spec, class, class % 20, 28);
        let ink: f64 = image.iter().map(|&value| f64::from(value)).sum::<f64>() / (255.0 * 784.0);
        assert!((0.02..0.4).contains(&ink), "character {class} covers {ink:.3} of the paper");
        let edge = (0..28).flat_map(|i| [image[i], image[27 * 28 + i], image[28 * i], image[28 * i + 27]]);
        assert!(edge.max() < Some(200), "character {class} is cut off");
    }
}

#[test]
fn writers_of_one_character_are_nearer_than_other_characters() {
    let spec = GlyphSpec::default();
    // Blurred, so that a shifted stroke is still near.
    let images: Vec<Vec<Vec<f64>>> =
        (0..40).map(|class| (0..6).map(|writer| blurred(&draw(&spec, class, writer, 28))).collect()).collect();
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    let (mut right, mut total) = (0, 0);
    for class in 0..40 {
        for writer in 0..6 {
            let query = &images[class][writer];
            let others = (0..40).flat_map(|c| (0..6).map(move |w| (c, w))).filter(|&(c, w)| (c, w) != (class, writer));
            let nearest =
                others.min_by(|a, b| distance(query, &images[a.0][a.1]).total_cmp(&distance(query, &images[b.0][b.1])));
            right += usize::from(nearest.unwrap().0 == class);
            total += 1;
        }
    }
    let share = right as f64 / total as f64;
    // Pixels tell much, or it could not be learnt; not all, or there were nothing to learn.
    assert!((0.3..0.95).contains(&share), "nearest neighbours in pixels are right for {share:.3}");
}

fn blurred(image: &[u8]) -> Vec<f64> {
    let at = |x: usize, y: usize| f64::from(image[y * 28 + x]);
    let cell = |i: usize| {
        let (x0, y0) = (i % 7 * 4, i / 7 * 4);
        (0..16).map(|j| at(x0 + j % 4, y0 + j / 4)).sum::<f64>()
    };
    (0..49).map(cell).collect()
}
