//! Memory of a step: rows of all channels of all windows, taken once and kept.

use std::{marker::PhantomData, num::NonZero, ptr::NonNull};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use super::{
    conv::{HALO, Rows},
    phases::phase_length,
};

/// Rows begin and end on multiples of so many elements; what lies behind the length is zero.
const PAD: usize = 16;
/// A kernel may load one vector behind the last row.
const SLACK: usize = 64;

/// A buffer of rows, of which each channel has two: its even and its odd places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub length: usize,
}

impl Shape {
    /// Channels [C, L].
    pub fn of(channels: usize, length: usize) -> Self {
        Self {
            rows: 2 * channels,
            length: phase_length(length, 0),
        }
    }
    pub fn padded(self) -> usize {
        self.length.next_multiple_of(PAD)
    }
    /// Neighbouring rows share the zeros between them.
    pub fn stride(self) -> usize {
        self.padded() + HALO
    }
}

/// Neighbouring channels of a buffer: what one layer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub buffer: usize,
    pub first: usize,
    pub channels: usize,
    pub length: usize,
}

pub struct Arena<T> {
    memory: NonNull<T>,
    bytes: usize,
    buffers: Vec<(Shape, usize)>,
    batch: usize,
    elements: PhantomData<T>,
}

// SAFETY: workers write to different windows, and read what others wrote only after these have ended.
unsafe impl<T: Send> Sync for Arena<T> {}
// SAFETY: the memory belongs to the arena alone.
unsafe impl<T: Send> Send for Arena<T> {}

impl<T> Arena<T> {
    /// Memory for `batch` windows; a buffer that is not needed has none.
    pub fn new(shapes: &[Option<Shape>], batch: usize) -> Self {
        let none = Shape::of(0, 0);
        let mut size = 0;
        let buffers = shapes
            .iter()
            .map(|shape| {
                let (shape, start) = (shape.unwrap_or(none), size);
                // Every buffer begins at a cache line, with zeros before its first row.
                size += (batch * shape.rows * shape.stride() + HALO).next_multiple_of(PAD);
                (shape, start)
            })
            .collect();
        let bytes = (size + SLACK)
            .checked_mul(size_of::<T>())
            .and_then(NonZero::new);
        let bytes = bytes.expect("a batch fits the address space");
        let (access, private) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        );
        // SAFETY: new pages of zeros, and zero bytes are zeros of every element type used.
        let memory = unsafe { mmap_anonymous(None, bytes, access, private) };
        let memory = memory.unwrap_or_else(|err| panic!("{bytes} bytes for a batch: {err}"));
        // Rows lie far apart: with pages of 2 MiB the processor's table of addresses holds them all.
        // SAFETY: the pages were just made. A system without large pages says no, and nothing is lost.
        let _ = unsafe { madvise(memory, bytes.get(), MmapAdvise::MADV_HUGEPAGE) };
        Self {
            memory: memory.cast(),
            bytes: bytes.get(),
            buffers,
            batch,
            elements: PhantomData,
        }
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The rows of a place in one window.
    pub fn rows(&self, place: Place, window: usize) -> Rows<T> {
        let (shape, start) = self.buffers[place.buffer];
        let (first, rows) = (2 * place.first, 2 * place.channels);
        assert!(window < self.batch && first + rows <= shape.rows);
        let row = window * shape.rows + first;
        Rows {
            // SAFETY: within the buffer, by the assertion.
            at: unsafe {
                self.memory
                    .as_ptr()
                    .add(start + HALO + row * shape.stride())
            },
            stride: shape.stride(),
            rows,
            padded: shape.padded(),
        }
    }

    /// Elements from a window of a buffer to the next.
    pub fn step(&self, place: Place) -> usize {
        let (shape, _) = self.buffers[place.buffer];
        shape.rows * shape.stride()
    }
}

impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        // SAFETY: mapped with this size, and no rows outlive their arena.
        let _ = unsafe { munmap(self.memory.cast(), self.bytes) };
    }
}

impl<T: Default> Rows<T> {
    /// Zeros behind `length` places of the channels, where a kernel wrote to the end of the padded rows.
    pub fn clear_tails(&self, length: usize) {
        for row in 0..self.rows {
            for at in phase_length(length, row % 2)..self.padded {
                // SAFETY: within the row.
                unsafe { self.row(row).add(at).write(T::default()) };
            }
        }
    }

    /// The first `length` elements of a row.
    ///
    /// # Safety
    /// Nobody else holds them; their arena is alive.
    pub unsafe fn slice<'a>(&self, row: usize, length: usize) -> &'a mut [T] {
        assert!(row < self.rows && length <= self.padded);
        std::slice::from_raw_parts_mut(self.row(row), length)
    }
}
