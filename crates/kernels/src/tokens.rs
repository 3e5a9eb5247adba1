//! Tokens of a vision transformer: a class token before an image's patches, and an embedding of each position added.
//!
//! ```text
//! y[image, 0] = class + position[0],   y[image, 1 + i] = x[image, i] + position[1 + i]
//! ```
//! Shapes: i patches of c channels; x [n, i, c], class `[c]`, position [1 + i, c], y [n, 1 + i, c].

use crate::simd::dispatch;
use crate::{Team, check, columns, elementwise};

/// `y` from patches, class token and position embedding. Overwrites `y`.
pub fn add_tokens(team: &Team, x: &[f32], class: &[f32], position: &[f32], y: &mut [f32]) {
    let (c, length) = (class.len(), position.len());
    check::length("add_tokens", "y", y.len(), x.len() + y.len() / length.max(1) * c);
    team.for_each_chunk(y, length.max(1), |image, y| {
        let x = &x[image * (length - c)..][..length - c];
        let ((first, rest), (of_class, of_patches)) = (y.split_at_mut(c), position.split_at(c));
        dispatch(team.isa(), elementwise::Add { a: class, b: of_class, y: first });
        dispatch(team.isa(), elementwise::Add { a: x, b: of_patches, y: rest });
    });
}

/// The gradients of [`add_tokens`] with respect to the patches (if `dx` is not empty), the class token and the positions.
/// Overwrites all.
pub fn add_tokens_backward(team: &Team, dy: &[f32], dx: &mut [f32], dclass: &mut [f32], dposition: &mut [f32]) {
    let (c, length) = (dclass.len(), dposition.len());
    columns::sum_into(team, dy, dposition);
    dclass.copy_from_slice(&dposition[..c]);
    if !dx.is_empty() {
        check::length("add_tokens_backward", "dx", dx.len(), dy.len() - dy.len() / length.max(1) * c);
        team.for_each_chunk(dx, (length - c).max(1), |image, dx| {
            dx.copy_from_slice(&dy[image * length + c..][..length - c]);
        });
    }
}
