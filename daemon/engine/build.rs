//! Tells the engine whether OpenBLAS computes its products, because then it decides how many threads do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(openblas)");
    if std::env::var("DEP_MLX_BLAS").is_ok_and(|blas| blas == "openblas") {
        println!("cargo::rustc-cfg=openblas");
    }
}
