//! Binary cross-entropy from logits, summed over labels that are known, and its gradient.

use super::{
    arena::{Arena, Place},
    lanes::Element,
    phases::phase_length,
};

/// Writes sigmoid(z) - label to the gradient of each logit, 0 where there is no label; returns the summed loss and the
/// number of labels. `labels` [T, L]: 0, 1, or -1 for none.
pub fn cross_entropy<T: Element>(
    logits: &Arena<T>,
    gradients: &Arena<T>,
    place: Place,
    window: usize,
    labels: &[i8],
) -> (f64, f64) {
    let (logits, gradients) = (logits.rows(place, window), gradients.rows(place, window));
    let (mut loss, mut valid) = (0.0, 0u64);
    for row in 0..logits.rows {
        let (target, phase) = (row / 2, row % 2);
        let length = phase_length(place.length, phase);
        let labels = &labels[target * place.length..][..place.length];
        // SAFETY: rows of two arenas, of a window that one worker has.
        let (z, g) = unsafe { (logits.slice(row, length), gradients.slice(row, length)) };
        for ((z, g), &label) in z.iter().zip(g).zip(labels.iter().skip(phase).step_by(2)) {
            if label < 0 {
                *g = T::default();
                continue;
            }
            let (z, label) = (z.wide(), f64::from(label));
            // e^-|z| cannot overflow; 1 / (1 + e) is the sigmoid of |z|.
            let e = (-z.abs()).exp();
            let sigmoid = if z >= 0.0 { 1.0 } else { e } / (1.0 + e);
            loss += z.max(0.0) - z * label + e.ln_1p();
            valid += 1;
            *g = T::of(sigmoid - label);
        }
    }
    (loss, valid as f64)
}
