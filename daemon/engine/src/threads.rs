//! How many threads compute one product on the CPU. OpenBLAS takes all of them from small sizes on, and they wait for each
//! other by spinning: at the size of one token of a small model that gains nothing, and costs ten times the product where
//! another program wants the same cores.

/// Numbers in the largest matrix of a layer from which several threads pay.
const WORTH_SHARING: u64 = 1 << 22;

/// Leaves the products of a model whose largest matrix has so many numbers to one thread when they are small. Nothing may be
/// computing meanwhile.
pub(crate) fn suit(largest: u64) {
    if largest < WORTH_SHARING {
        mlx_sys::set_blas_threads(1);
    }
}
