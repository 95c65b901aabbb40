//! What was built is the MLX that mlx-c asks for, and it computes.

use std::ffi::CStr;

use mlx_sys::{
    MLX_VERSION, mlx_array_data_float32, mlx_array_eval, mlx_array_free, mlx_array_new,
    mlx_array_new_data, mlx_default_cpu_stream_new, mlx_dtype__MLX_FLOAT32, mlx_matmul,
    mlx_stream_free, mlx_string_data, mlx_string_free, mlx_string_new, mlx_version,
};

#[test]
fn the_library_has_the_version_that_its_headers_have() {
    // SAFETY: the string is made, read and freed here; its text is NUL-terminated and lives as long.
    let version = unsafe {
        let mut text = mlx_string_new();
        assert_eq!(mlx_version(&raw mut text), 0);
        let version = CStr::from_ptr(mlx_string_data(text)).to_str().unwrap().to_owned();
        mlx_string_free(text);
        version
    };
    assert_eq!(version, MLX_VERSION);
}

/// A product whose three dimensions differ shows arguments handed to the BLAS in a wrong order.
#[test]
fn products_are_right() {
    let a: Vec<f32> = (0..6u8).map(f32::from).collect();
    let b: Vec<f32> = (0..12u8).map(f32::from).collect();
    let mut product = [0.0_f32; 8];
    // SAFETY: shapes and lengths agree, MLX copies the data, and each handle is freed once. The
    // result is evaluated, contiguous and holds the eight values that are copied out of it.
    unsafe {
        let stream = mlx_default_cpu_stream_new();
        let a = mlx_array_new_data(a.as_ptr().cast(), [2, 3].as_ptr(), 2, mlx_dtype__MLX_FLOAT32);
        let b = mlx_array_new_data(b.as_ptr().cast(), [3, 4].as_ptr(), 2, mlx_dtype__MLX_FLOAT32);
        let mut c = mlx_array_new();
        assert_eq!(mlx_matmul(&raw mut c, a, b, stream), 0);
        assert_eq!(mlx_array_eval(c), 0);
        mlx_array_data_float32(c).copy_to_nonoverlapping(product.as_mut_ptr(), product.len());
        for array in [a, b, c] {
            mlx_array_free(array);
        }
        mlx_stream_free(stream);
    }
    let expected = [20.0, 23.0, 26.0, 29.0, 56.0, 68.0, 80.0, 92.0];
    assert!(
        product.iter().zip(expected).all(|(is, should)| (is - should).abs() < 1e-6),
        "{product:?}"
    );
}
