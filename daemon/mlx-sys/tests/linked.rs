//! What was built is the MLX that mlx-c asks for, and it computes.

use std::ffi::CStr;

use mlx_sys::{
    MLX_VERSION, mlx_array_data_float32, mlx_array_eval, mlx_array_free, mlx_array_new,
    mlx_array_new_data, mlx_default_cpu_stream_new, mlx_dtype__MLX_FLOAT32, mlx_matmul,
    mlx_stream_free, mlx_string_data, mlx_string_free, mlx_string_new, mlx_transpose, mlx_version,
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

/// Products of a few rows are made by kernels of their own, by the number of rows, by how the matrix lies, by whole vectors and
/// what is left of them, and shared by several cores from some size on.
#[test]
fn products_of_few_rows_are_right() {
    let columns = [1, 2, 5, 16, 63, 64, 65, 130, 257, 700];
    let depths = [1, 3, 8, 31, 64, 200, 257, 800];
    for rows in 1..=18_i32 {
        for (place, &columns) in columns.iter().enumerate() {
            for transposed in [false, true] {
                check_product(
                    rows,
                    columns,
                    depths[(rows.unsigned_abs() as usize + place) % depths.len()],
                    transposed,
                );
            }
        }
    }
    for transposed in [false, true] {
        check_product(1, 3001, 513, transposed);
        check_product(5, 1500, 1030, transposed);
    }
}

/// Rows of `count` by `depth` numbers times a matrix with so many columns, against the sums as they are written.
fn check_product(count: i32, columns: i32, depth: i32, transposed: bool) {
    let number =
        |at: i32| f32::from(u8::try_from(at.wrapping_mul(97) & 0xff).unwrap_or(0)) / 255.0 - 0.5;
    let rows: Vec<f32> = (0..count * depth).map(number).collect();
    let matrix: Vec<f32> = (0..depth * columns).map(|at| number(at + 7 + at / 251)).collect();
    let mut product = vec![0.0_f32; (count * columns).unsigned_abs() as usize];
    // SAFETY: as above.
    unsafe {
        let stream = mlx_default_cpu_stream_new();
        let float = mlx_dtype__MLX_FLOAT32;
        let left = mlx_array_new_data(rows.as_ptr().cast(), [count, depth].as_ptr(), 2, float);
        let shape = if transposed { [columns, depth] } else { [depth, columns] };
        let mut right = mlx_array_new_data(matrix.as_ptr().cast(), shape.as_ptr(), 2, float);
        if transposed {
            let mut turned = mlx_array_new();
            assert_eq!(mlx_transpose(&raw mut turned, right, stream), 0);
            mlx_array_free(std::mem::replace(&mut right, turned));
        }
        let mut result = mlx_array_new();
        assert_eq!(mlx_matmul(&raw mut result, left, right, stream), 0);
        assert_eq!(mlx_array_eval(result), 0);
        mlx_array_data_float32(result).copy_to_nonoverlapping(product.as_mut_ptr(), product.len());
        for array in [left, right, result] {
            mlx_array_free(array);
        }
        mlx_stream_free(stream);
    }
    let at = |place: i32| place.unsigned_abs() as usize;
    for row in 0..count {
        for column in 0..columns {
            let terms = (0..depth).map(|i| {
                let place = if transposed { column * depth + i } else { i * columns + column };
                f64::from(rows[at(row * depth + i)]) * f64::from(matrix[at(place)])
            });
            let (is, should) = (f64::from(product[at(row * columns + column)]), terms.sum::<f64>());
            assert!(
                (is - should).abs() < 1e-4,
                "{count} by {depth} by {columns}, transposed: {transposed}, at {row}, {column}: {is}, not {should}"
            );
        }
    }
}
