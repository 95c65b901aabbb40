//! How many threads compute one product. OpenBLAS takes all of them from small sizes on, and they wait for each other by
//! spinning: at the size of one token of a small model that gains nothing, and costs ten times the product where another
//! program wants the same cores.

/// Numbers in the largest matrix of a layer from which several threads pay.
const WORTH_SHARING: u64 = 1 << 22;

/// Leaves the products of a model whose largest matrix has so many numbers to one thread when they are small. Nothing may be
/// computing meanwhile.
pub(crate) fn suit(largest: u64) {
    if largest < WORTH_SHARING {
        blas::set_threads(1);
    }
}

#[cfg(openblas)]
mod blas {
    //! OpenBLAS's own controls.

    #[expect(unsafe_code, reason = "the library is C")]
    pub(super) fn set_threads(count: i32) {
        // SAFETY: the library accepts any number and takes it for products to come.
        unsafe { scipy_openblas_set_num_threads(count) }
    }

    #[expect(unsafe_code, reason = "the library is C")]
    unsafe extern "C" {
        fn scipy_openblas_set_num_threads(count: i32);
    }
}

#[cfg(not(openblas))]
mod blas {
    //! Other libraries decide for themselves.

    pub(super) const fn set_threads(_: i32) {}
}
