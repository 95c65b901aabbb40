//! Tells the program where MLX's libraries lie, so that it finds them when it is started by hand from any folder. Building
//! and finding MLX is the business of `mlx-sys`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by mlx-sys; absent without the engine, when there is nothing to find.
    let Some(folders) = std::env::var_os("DEP_MLX_RPATH") else { return };
    // First beside the program, where an archive has them, then where this build found them.
    let beside = if cfg!(target_os = "macos") { "@loader_path/../lib" } else { "$ORIGIN/../lib" };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{beside}");
    for folder in std::env::split_paths(&folders) {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}
