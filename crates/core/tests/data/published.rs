//! Published data sets in small: each layout made on the fly, as its archive unpacks, whole and with pieces missing.

use std::fs;

use rkd_core::data::SplitPlan;
use rkd_core::data::{DataPlan, Dataset, Part, Split, Survey, survey};
use rkd_core::input;

use crate::data::common::{Place, content, gzip, open, png, says, tar_of, zip_of};

/// Classes of the train, validation and test part.
fn classes(data: &Dataset) -> [Vec<String>; 3] {
    let split = Split::new(data, &SplitPlan::Source { validation: 0.0 }, 1).unwrap();
    [Part::Train, Part::Validation, Part::Test]
        .map(|part| split.classes(part).iter().map(|&label| data.class_name(label).to_string()).collect())
}

fn look(place: &Place) -> Survey {
    survey(&place.plan(), &|| false).unwrap()
}

#[track_caller]
fn tells(survey: &Survey, parts: &[&str]) {
    let found = survey.warnings.iter().any(|warning| parts.iter().all(|part| warning.contains(part)));
    assert!(found, "none of {:?} says {parts:?}", survey.warnings);
}

fn cub(place: &Place) {
    let names = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Groove_billed_Ani"];
    let mut list = String::new();
    for (i, name) in names.iter().flat_map(|name| [name, name]).enumerate() {
        list += &format!("{} {name}/bird_{i}.jpg\n", i + 1);
        place.images(&[(&format!("CUB/images/{name}/bird_{i}.jpg"), i as u8)]);
    }
    place.write("CUB/images.txt", list.as_bytes());
    place.write("CUB/classes.txt", b"1 001.Black_footed_Albatross");
    place.images(&[("CUB/segmentations/001.Black_footed_Albatross/bird_0.png", 9)]);
}

#[test]
fn the_name_of_an_archive_decides_no_default() {
    let (names, place) = (["001.Albatross", "002.Ani"], Place::new());
    let list = "1 001.Albatross/1.png\n2 002.Ani/1.png\n";
    let images: Vec<String> = names.iter().map(|name| format!("CUB_200_2011/images/{name}/1.png")).collect();
    let image = png(7);
    let archive =
        zip_of(&[("CUB_200_2011/images.txt", list.as_bytes()), (&images[0], &image[..]), (&images[1], &image[..])]);
    let plans = ["CUB_200_2011.zip", "birds.zip"].map(|name| {
        let path = place.write(name, &archive);
        let source = input::read("data", &path.display().to_string().into()).unwrap();
        DataPlan { source: String::new(), ..rkd_core::options::survey(&source, &|| false).unwrap().data }
    });
    assert_eq!(plans[0].split, SplitPlan::Source { validation: 0.1 });
    assert_eq!(format!("{:?}", plans[0]), format!("{:?}", plans[1]));
}

#[test]
fn cub_splits_its_classes_in_halves_by_number() {
    let place = Place::new();
    cub(&place);
    let data = place.open().unwrap();
    let found = data.describe();
    assert_eq!((found.name.as_deref(), found.images, found.classes), (Some("CUB-200-2011"), 8, 4));
    let [train, validation, test] = classes(&data);
    assert_eq!(train, ["001.Black_footed_Albatross", "002.Laysan_Albatross"]);
    assert_eq!((validation.len(), &test[1][..]), (0, "004.Groove_billed_Ani"));
    let survey = look(&place);
    assert_eq!(survey.sentence, found.sentence);
    assert_eq!(survey.parts.iter().map(|part| (part.images, part.classes)).collect::<Vec<_>>(), [(4, 2), (4, 2)]);
    assert!(!survey.shared_classes);
    tells(&survey, &["1 images are not listed in images.txt", "segmentations"]);
    tells(&survey, &["as published has 200 classes, 5864 train + 5924 test", "here are 4 classes, 4 train + 4 test"]);
    fs::remove_file(place.data().join("CUB/images/004.Groove_billed_Ani/bird_7.jpg")).unwrap();
    tells(
        &look(&place),
        &["1 of the 8 images that images.txt list are missing", "CUB/images/004.Groove_billed_Ani/bird_7.jpg"],
    );
}

#[test]
fn numbered_class_folders_are_known_by_their_first_or_last_class() {
    let place = Place::new();
    let files = ["001.AM General Hummer SUV 2000/1.jpg", "098.Ferrari/2.jpg", "099.Fiat/3.jpg", "150.Jeep/4.jpg"];
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|name| (*name, png(1))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    place.write("cars.zip", &zip_of(&files));
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("Cars 196"));
    assert!(data.describe().sentence.starts_with("Recognised Cars 196 (the ZIP archive cars.zip, the only archive"));
    let [train, _, test] = classes(&data);
    assert_eq!(train, ["001.AM General Hummer SUV 2000", "098.Ferrari"]);
    assert_eq!(test, ["099.Fiat", "150.Jeep"]);
    tells(&look(&place), &["Cars 196 as published has 196 classes", "here are 4 classes"]);
    // Other numbered folders are just folders.
    let place = Place::new();
    place.images(&[("001.cat/1.png", 1), ("002.dog/1.png", 2)]);
    assert_eq!(place.open().unwrap().describe().name, None);
}

/// A MATLAB 5 file: little-endian elements, arrays inside arrays.
mod mat {
    pub fn element(kind: u32, content: &[u8]) -> Vec<u8> {
        if !content.is_empty() && content.len() <= 4 {
            let mut out = (kind | (content.len() as u32) << 16).to_le_bytes().to_vec();
            out.extend(content);
            out.resize(8, 0);
            return out;
        }
        let mut out = [kind.to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
        out.extend(content);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    pub fn array(class: u32, count: u32, name: &str, content: &[Vec<u8>]) -> Vec<u8> {
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let dimensions = [1u32.to_le_bytes(), count.to_le_bytes()].concat();
        let head = [element(6, &flags), element(5, &dimensions), element(1, name.as_bytes())].concat();
        element(14, &[head, content.concat()].concat())
    }

    pub fn text(text: &str) -> Vec<u8> {
        let letters: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        array(4, text.len() as u32, "", &[element(4, &letters)])
    }

    /// A structure array of the images' names, in the field `called`, and their classes.
    pub fn annotations(called: &str, images: &[(String, u8)]) -> Vec<u8> {
        let mut fields = called.as_bytes().to_vec();
        fields.resize(32, 0);
        fields.extend(b"class");
        fields.resize(64, 0);
        let mut content = vec![element(5, &32u32.to_le_bytes()), element(1, &fields)];
        content.extend(images.iter().flat_map(|(name, class)| [text(name), array(6, 1, "", &[element(2, &[*class])])]));
        array(2, images.len() as u32, "annotations", &content)
    }

    pub fn file(variables: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![b' '; 124];
        out.extend([0, 1, b'I', b'M']);
        out.extend(variables.concat());
        out
    }

    /// As MATLAB saves a variable by default.
    pub fn compressed(variable: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(variable).unwrap();
        let packed = out.finish().unwrap();
        [&15u32.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat()
    }
}

#[test]
fn cars_are_read_from_their_matlab_file() {
    let place = Place::new();
    let names: Vec<Vec<u8>> = ["AM General Hummer", "Acura/RL", "Audi", "BMW"].map(mat::text).to_vec();
    let images: Vec<(String, u8)> =
        [4, 1, 2, 3, 1].iter().enumerate().map(|(i, class)| (format!("car_ims/{i:06}.jpg"), *class)).collect();
    images.iter().zip(0..).for_each(|((path, _), i)| place.images(&[(path, i)]));
    let variables =
        [mat::compressed(&mat::annotations("relative_im_path", &images)), mat::array(1, 4, "class_names", &names)];
    let file = mat::file(&variables);
    place.write("cars_annos.mat", &file);
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("Cars 196"));
    let [train, _, test] = classes(&data);
    assert_eq!(train, ["001.AM General Hummer", "002.Acura-RL"]);
    assert_eq!(test, ["003.Audi", "004.BMW"]);
    assert_eq!(data.class_name(data.label(4)), "001.AM General Hummer");
    // Damage anywhere is an error with the file's name, never a panic.
    for length in (0..file.len()).step_by(7) {
        place.write("cars_annos.mat", &file[..length]);
        if let Err(error) = survey(&place.plan(), &|| false) {
            says(&error, &["no image has a class", "cars_annos.mat"]);
        }
    }
    for place_of_flip in (128..file.len()).step_by(3) {
        let mut damaged = file.clone();
        damaged[place_of_flip] ^= 0x55;
        place.write("cars_annos.mat", &damaged);
        let _ = survey(&place.plan(), &|| false);
    }
}

#[test]
fn a_small_matlab_file_cannot_ask_for_much_memory() {
    let place = Place::new();
    place.images(&[("car_ims/000001.jpg", 1)]);
    let no_fields = [mat::element(5, &32u32.to_le_bytes()), mat::element(1, b"")];
    let nested = |count| mat::array(2, count, "annotations", &no_fields);
    let numbers = mat::array(6, 1, "annotations", &[mat::element(2, &vec![7; 60 << 20])]);
    for (what, variable) in
        [("structures", nested(u32::MAX)), ("many", nested(1 << 26)), ("numbers", mat::compressed(&numbers))]
    {
        place.write("cars_annos.mat", &mat::file(&[variable]));
        says(
            &survey(&place.plan(), &|| false).expect_err(what),
            &["no image has a class", "cars_annos.mat is damaged"],
        );
    }
}

#[test]
fn cars_are_read_from_their_later_layout() {
    let place = Place::new();
    let names: Vec<Vec<u8>> = ["AM General Hummer", "Acura/RL", "Audi", "BMW"].map(mat::text).to_vec();
    let images = |classes: &[u8]| -> Vec<(String, u8)> {
        classes.iter().enumerate().map(|(i, class)| (format!("{:05}.jpg", i + 1), *class)).collect()
    };
    let (train, test) = (images(&[4, 1, 2]), images(&[3, 1]));
    train.iter().zip(0..).for_each(|((name, _), i)| place.images(&[(&format!("cars_train/{name}"), i)]));
    test.iter().zip(9..).for_each(|((name, _), i)| place.images(&[(&format!("cars_test/{name}"), i)]));
    place.write("devkit/cars_meta.mat", &mat::file(&[mat::array(1, 4, "class_names", &names)]));
    place.write("devkit/cars_train_annos.mat", &mat::file(&[mat::annotations("fname", &train)]));
    tells(&look(&place), &["2 images are not listed in cars_train_annos.mat", "cars_test/00001.jpg"]);
    place.write("cars_test_annos_withlabels.mat", &mat::file(&[mat::annotations("fname", &test)]));
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("Cars 196"));
    let [train, _, test] = classes(&data);
    assert_eq!(train, ["001.AM General Hummer", "002.Acura-RL"]);
    assert_eq!(test, ["003.Audi", "004.BMW"]);
    place.write("devkit/cars_meta.mat", b"not a MATLAB file");
    says(&survey(&place.plan(), &|| false).unwrap_err(), &["no image has a class", "cars_meta.mat is damaged"]);
}

#[test]
fn online_products_follow_their_two_lists() {
    let place = Place::new();
    let root = "Stanford_Online_Products";
    let head = "image_id class_id super_class_id path\n";
    let file = |i: usize| format!("bicycle_final/11{i}_0.JPG");
    (0..6).for_each(|i| place.images(&[(&format!("{root}/{}", file(i)), i as u8)]));
    let list = |images: &[(usize, usize)]| {
        let lines: Vec<String> =
            images.iter().map(|(i, class)| format!("{} {class} 1 {}\n", i + 1, file(*i))).collect();
        format!("{head}{}", lines.concat())
    };
    place.write(&format!("{root}/Ebay_train.txt"), list(&[(0, 1), (1, 1), (2, 2)]).as_bytes());
    place.write(&format!("{root}/Ebay_test.txt"), list(&[(3, 11319), (4, 11319), (5, 11320)]).as_bytes());
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("Stanford Online Products"));
    let [train, _, test] = classes(&data);
    assert_eq!(train, ["bicycle/00001", "bicycle/00002"]);
    assert_eq!(test, ["bicycle/11319", "bicycle/11320"]);
    fs::remove_file(place.data().join(format!("{root}/Ebay_test.txt"))).unwrap();
    let survey = look(&place);
    assert_eq!((survey.images, survey.parts.len()), (3, 1));
    tells(&survey, &["Ebay_test.txt is missing"]);
}

#[test]
fn tiny_imagenet_takes_the_classes_of_val_from_its_annotations() {
    let place = Place::new();
    for id in ["n01443537", "n01629819"] {
        (0..4).for_each(|i| place.images(&[(&format!("train/{id}/images/{id}_{i}.JPEG"), i)]));
        place.write(&format!("train/{id}/{id}_boxes.txt"), b"boxes");
    }
    place.images(&[("val/images/val_0.JPEG", 1), ("val/images/val_1.JPEG", 2), ("test/images/test_0.JPEG", 3)]);
    place.write("wnids.txt", b"n01443537\nn01629819\n");
    place
        .write("val/val_annotations.txt", b"val_0.JPEG\tn01629819\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t0\t0\t9\t9\n");
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("Tiny ImageNet"));
    assert_eq!(data.len(), 10);
    let val = (0..10).find(|&item| data.id(item) == "val/images/val_0.JPEG").unwrap();
    assert_eq!((data.class_name(data.label(val)), data.part(val)), ("n01629819", Some(Part::Validation)));
    // Known classes: validation is a share of each class's training images.
    let split = Split::new(&data, &SplitPlan::Source { validation: 0.25 }, 1).unwrap();
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [6, 2, 2]);
    assert_eq!([split.train_classes.len(), split.validation_classes.len(), split.test_classes.len()], [2; 3]);
    let survey = look(&place);
    assert!(survey.shared_classes);
    tells(&survey, &["the 1 images of test have no published labels"]);
    tells(&survey, &["100000 train + 10000 validation", "8 train + 2 validation"]);
    fs::remove_file(place.data().join("val/val_annotations.txt")).unwrap();
    tells(&look(&place), &["2 images of val have no class", "val/val_annotations.txt is missing"]);
    // The same packed, under a folder, with val sorted into classes.
    let files = ["train/n1/images/a.JPEG", "train/n2/images/b.JPEG", "val/n1/images/c.JPEG", "val/n2/images/d.JPEG"];
    let mut packed: Vec<(String, Vec<u8>)> = files.iter().map(|name| (format!("tiny/{name}"), png(1))).collect();
    packed.push(("tiny/wnids.txt".into(), b"n1\nn2\n".to_vec()));
    let packed: Vec<(&str, &[u8])> = packed.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    let data = open(&place.plan_of(&place.write("tiny.tgz", &gzip(&tar_of(&packed))))).unwrap();
    assert_eq!(classes(&data)[2], ["n1", "n2"]);
}

#[test]
fn mini_imagenet_follows_its_three_lists() {
    let place = Place::new();
    let lists = [("train", "n1 n2"), ("val", "n3 n4"), ("test", "n5 n6")];
    for (list, labels) in lists {
        let mut text = "filename,label\n".to_string();
        for label in labels.split(' ') {
            text += &format!("{label}_0.jpg,{label}\n");
            let folder = if label == "n2" { "images/n2" } else { "images" };
            place.images(&[(&format!("{folder}/{label}_0.jpg"), 1)]);
        }
        place.write(&format!("{list}.csv"), text.as_bytes());
    }
    let data = place.open().unwrap();
    assert_eq!(data.describe().name.as_deref(), Some("miniImageNet"));
    let expected = [["n1", "n2"], ["n3", "n4"], ["n5", "n6"]];
    assert_eq!(classes(&data), expected.map(|part| part.map(str::to_string).to_vec()));
    fs::remove_file(place.data().join("val.csv")).unwrap();
    let survey = look(&place);
    tells(&survey, &["val.csv is missing"]);
    tells(&survey, &["2 images are not listed", "n3_0.jpg"]);
    // Class folders with ImageNet's names: the lists say the part of each class.
    let folders = Place::new();
    for (list, label) in [("train", "n1"), ("train", "n2"), ("val", "n3"), ("test", "n4")] {
        (0..2).for_each(|i| folders.images(&[(&format!("{label}/{label}_{i}.JPEG"), i)]));
        let known = fs::read_to_string(folders.data().join(format!("{list}.csv"))).unwrap_or("filename,label\n".into());
        folders.write(&format!("{list}.csv"), format!("{known}{label}00000005.jpg,{label}\n").as_bytes());
    }
    folders.images(&[("n9/1.JPEG", 1)]);
    let data = folders.open().unwrap();
    assert_eq!((data.describe().name.as_deref(), data.len()), (Some("miniImageNet"), 8));
    assert_eq!(classes(&data).map(|part| part.join(" ")), ["n1 n2", "n3", "n4"]);
    tells(&look(&folders), &["1 images are not listed", "n9/1.JPEG"]);
    // Somebody's own test.csv is no list.
    let other = Place::new();
    other.images(&[("a/1.png", 1), ("b/1.png", 2)]);
    other.write("test.csv", b"id,score\n1,2\n");
    assert_eq!(other.open().unwrap().describe().name, None);
}

fn cifar(records: &[(u8, u8)]) -> Vec<u8> {
    let record = |&(fine, value): &(u8, u8)| {
        let planes = [value, value / 2, 255 - value].map(|plane| [plane; 1024]);
        [&[0, fine][..], planes.as_flattened()].concat()
    };
    records.iter().flat_map(record).collect()
}

#[test]
fn cifar_is_read_from_its_folder_and_from_its_archive() {
    let place = Place::new();
    let (train, test) = (cifar(&[(1, 10), (0, 20), (1, 30)]), cifar(&[(0, 40)]));
    let names = b"apple\nbear\n";
    let path = |name: &str| format!("cifar-100-binary/{name}");
    place.write(&path("train.bin"), &train);
    place.write(&path("test.bin"), &test);
    place.write(&path("fine_label_names.txt"), names);
    let mut plan = place.plan();
    (plan.image_size, plan.channels) = (32, 3);
    let data = open(&plan).unwrap();
    let found = data.describe();
    assert_eq!((&found.kind[..], found.name.as_deref(), found.images), ("cifar", Some("CIFAR-100"), 4));
    assert_eq!((data.id(1), data.class_name(data.label(1))), ("train/000000", "bear"));
    assert_eq!(data.pixels(1)[..6], [10, 5, 245, 10, 5, 245]);
    assert_eq!(data.part(0), Some(Part::Test));
    // As downloaded; grey is Pillow's.
    let archive = [(path("train.bin"), &train[..]), (path("test.bin"), &test), (path("fine_label_names.txt"), names)];
    let archive: Vec<(&str, &[u8])> = archive.iter().map(|(name, bytes)| (&name[..], *bytes)).collect();
    let packed = place.folder.path().join("cifar-100-binary.tar.gz");
    fs::write(&packed, gzip(&tar_of(&archive))).unwrap();
    plan.source = packed.display().to_string();
    let same = open(&plan).unwrap();
    assert_eq!(content(&same), content(&data));
    plan.channels = 1;
    assert_eq!(open(&plan).unwrap().pixels(1)[0], ((19595 * 10 + 38470 * 5 + 7471 * 245 + 32768) >> 16) as u8);

    fs::remove_file(place.data().join(path("test.bin"))).unwrap();
    tells(&look(&place), &["CIFAR-100 as published has 100 classes", "here are 2 classes, 3 train + 0 test"]);
    place.write(&path("train.bin"), &train[..5000]);
    says(&place.error(), &["train.bin is cut off", "a multiple of 3074 bytes, received 5000"]);
}

#[test]
fn half_of_omniglot_says_what_is_missing() {
    let place = Place::new();
    let files = [
        ("images_background/Greek/character01/0_01.png", &png(255)[..]),
        ("images_background/Latin/c1/1.png", &png(0)),
    ];
    place.write("images_background.zip", &zip_of(&files));
    let survey = look(&place);
    assert_eq!(survey.name.as_deref(), Some("Omniglot"));
    assert!(survey.sentence.contains("images_background.zip alone, of its two archives"), "{}", survey.sentence);
    tells(
        &survey,
        &["Omniglot as published has 1623 classes, 19280 train + 13180 test", "here are 2 classes, 2 train + 0 test"],
    );
}

#[test]
fn a_survey_decodes_nothing_and_counts_turns() {
    let place = Place::new();
    place.write("a/1.png", b"no image");
    place.images(&[("b/1.png", 1)]);
    let mut plan = place.plan();
    plan.rotations = true;
    let found = survey(&plan, &|| false).unwrap();
    assert_eq!((found.images, found.classes, found.parts.len()), (8, 8, 0));
    assert!(!place.cache().exists());
}
