//! The packages of `mlx_lm`, as several tests install them.

/// `mlx_lm` and the MLX that it runs on.
pub(crate) const MLX_LM: [&str; 2] =
    ["mlx-lm==0.32.2", if cfg!(target_os = "macos") { "mlx==0.32.2" } else { "mlx[cpu]==0.32.2" }];
