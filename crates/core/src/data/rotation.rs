//! Quarter turns as classes of their own (Santoro et al. 2016; Snell, Swersky, Zemel 2017, section 3.1): a character turned by
//! 90, 180 or 270 degrees is another character, so 1,623 characters become 6,492 classes.
//!
//! Turns are anticlockwise, as Pillow's `rotate`, and are made after resizing: a quarter turn of a square moves pixels and
//! changes none. The class `Greek/character07` becomes `Greek/character07/rot000` to `.../rot270`, the names of the published
//! lists; ids get `@rot000` to `@rot270`.

/// Turns of an image: 0, 90, 180, 270 degrees.
pub const TURNS: [&str; 4] = ["rot000", "rot090", "rot180", "rot270"];

/// Turns `image` (`[side, side, channels]`) by `quarters` times 90 degrees, anticlockwise; `spare` is memory to work in.
pub fn turn(image: &mut [u8], side: usize, channels: usize, quarters: usize, spare: &mut Vec<u8>) {
    if quarters == 0 {
        return;
    }
    spare.clear();
    spare.extend_from_slice(image);
    let last = side - 1;
    for (place, out) in image.chunks_exact_mut(channels).enumerate() {
        let (y, x) = (place / side, place % side);
        let (row, column) = match quarters {
            1 => (x, last - y),
            2 => (last - y, last - x),
            _ => (last - x, y),
        };
        out.copy_from_slice(&spare[(row * side + column) * channels..][..channels]);
    }
}

/// A class's name without its turn.
pub fn unturned(class: &str) -> &str {
    match class.rsplit_once('/') {
        Some((base, turn)) if TURNS.contains(&turn) => base,
        _ => class,
    }
}

/// An image's id without its turn, and whether it is the image as it was; nothing for an id without a turn.
pub fn unturned_id(id: &str) -> Option<(&str, bool)> {
    let (base, turn) = id.rsplit_once('@')?;
    TURNS.contains(&turn).then_some((base, turn == TURNS[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(image: &[u8], side: usize, channels: usize, quarters: usize) -> Vec<u8> {
        let mut out = image.to_vec();
        turn(&mut out, side, channels, quarters, &mut Vec::new());
        out
    }

    #[test]
    fn a_quarter_turn_takes_the_right_column_to_the_top() {
        assert_eq!(turned(&[1, 2, 3, 4], 2, 1, 1), [2, 4, 1, 3]);
        let colours = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4];
        assert_eq!(turned(&colours, 2, 3, 1), [2, 2, 2, 4, 4, 4, 1, 1, 1, 3, 3, 3]);
    }

    #[test]
    fn turns_add_up() {
        let image: Vec<u8> = (0..75).collect();
        let once = turned(&image, 5, 3, 1);
        assert_eq!(turned(&once, 5, 3, 1), turned(&image, 5, 3, 2));
        assert_eq!(turned(&turned(&image, 5, 3, 2), 5, 3, 1), turned(&image, 5, 3, 3));
        assert_eq!(turned(&turned(&image, 5, 3, 3), 5, 3, 1), image);
        assert_eq!(turned(&image, 5, 3, 0), image);
    }

    #[test]
    fn only_the_turn_is_taken_off_a_name() {
        assert_eq!(unturned("Greek/character07/rot090"), "Greek/character07");
        assert_eq!(unturned("Greek/character07"), "Greek/character07");
        assert_eq!(unturned("rot090"), "rot090");
        assert_eq!(unturned_id("a@b/1.png@rot000"), Some(("a@b/1.png", true)));
        assert_eq!(unturned_id("1.png@rot270"), Some(("1.png", false)));
        assert_eq!(unturned_id("a@b/1.png"), None);
    }
}
