//! The steps of the build that decide rather than do, tried as a build script cannot be.

#[path = "../build/folders.rs"]
#[expect(dead_code, reason = "the build script uses the rest")]
mod folders;
#[path = "../build/kept.rs"]
mod kept;
#[path = "../build/platform.rs"]
#[expect(dead_code, reason = "the build script uses the rest")]
mod platform;
#[path = "../build/problem.rs"]
mod problem;
#[path = "../build/sources.rs"]
#[expect(dead_code, reason = "the build script uses the rest")]
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use folders::Folders;
use platform::Platform;
use problem::Problem;

fn native(triple: &str, cuda: bool) -> Platform {
    Platform::new(triple, false, cuda, None).expect("MLX is published for it")
}

#[test]
fn every_platform_has_its_wheel() {
    let mac = native("aarch64-apple-darwin", false).mlx_wheel("1.2.3");
    assert_eq!(mac.requirement, "mlx-metal==1.2.3");
    assert_eq!(mac.platforms, ["macosx_14_0_arm64"]);
    for triple in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let cpu = native(triple, false).mlx_wheel("1.2.3");
        assert_eq!(cpu.requirement, "mlx-cpu==1.2.3");
        assert!(cpu.platforms.is_empty(), "pip knows this machine best");
        assert_eq!(native(triple, true).mlx_wheel("1.2.3").requirement, "mlx-cuda-13==1.2.3");
    }
}

#[test]
fn another_machine_is_described_to_pip() {
    let target = Platform::new("aarch64-unknown-linux-gnu", true, false, None).unwrap();
    let wheel = target.mlx_wheel("1.2.3");
    assert_eq!(wheel.platforms[0], "manylinux_2_35_aarch64");
    let newest = Platform::new("aarch64-apple-darwin", false, false, Some("26.1".into())).unwrap();
    assert_eq!(newest.mlx_wheel("1.2.3").platforms, ["macosx_26_0_arm64"]);
    assert_eq!(newest.deployment_target(), Some("26.1"));
}

#[test]
fn platforms_without_mlx_are_refused_by_name() {
    for triple in [
        "x86_64-pc-windows-msvc",
        "x86_64-apple-darwin",
        "x86_64-unknown-linux-musl",
        "riscv64gc-unknown-linux-gnu",
        "",
    ] {
        let problem = Platform::new(triple, false, false, None).unwrap_err().to_string();
        assert!(problem.contains(triple), "{problem}");
    }
    assert!(Platform::new("aarch64-apple-darwin", false, true, None).is_err(), "no CUDA on macOS");
}

#[test]
fn only_linux_cpus_get_another_blas() {
    assert!(native("x86_64-unknown-linux-gnu", false).wants_blas());
    assert!(!native("x86_64-unknown-linux-gnu", true).wants_blas());
    assert!(!native("aarch64-apple-darwin", false).wants_blas());
}

#[test]
fn the_version_is_read_from_mlx_c() {
    let cmake = "FetchContent_Declare(\n  mlx\n    GIT_REPOSITORY \"x\"\n    GIT_TAG v0.32.2)\n";
    assert_eq!(sources::version_in(cmake).as_deref(), Some("0.32.2"));
    assert_eq!(sources::version_in("GIT_TAG v)"), None);
    assert_eq!(sources::version_in("GIT_TAG main)"), None);
}

#[test]
fn the_published_crate_is_found_among_the_packages() {
    let metadata = br#"{"packages":[{"name":"bindgen","manifest_path":"/r/bindgen/Cargo.toml"},
        {"name":"mlx-sys","manifest_path":"/r/mlx-sys-0.7.0/Cargo.toml"}]}"#;
    assert_eq!(sources::package_folder(metadata), Some(PathBuf::from("/r/mlx-sys-0.7.0")));
    assert_eq!(sources::package_folder(br#"{"packages":[]}"#), None);
    assert_eq!(sources::package_folder(b"error"), None);
}

#[test]
fn the_reason_is_the_last_error_that_a_tool_names() {
    let pip =
        "WARNING: retrying\nERROR: no version\nERROR: No matching distribution found.\n\nnotice\n";
    assert_eq!(problem::reason_in(pip), Some("No matching distribution found"));
    assert_eq!(problem::reason_in("first\nlast\n"), Some("last"));
    assert_eq!(problem::reason_in(" \n"), None);
}

#[test]
fn kept_things_lie_beside_the_profiles() {
    let out = "/nowhere/target/release/build/mlx-sys-0123/out";
    let folders = Folders::new(PathBuf::from("/p"), PathBuf::from(out));
    assert_eq!(folders.kept, Path::new("/nowhere/target/mlx"));
}

#[test]
fn a_kept_folder_is_made_once_and_only_whole() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept");
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    let failed = kept::folder(&root, "thing", |aside| {
        fs::write(aside.join("half"), "").unwrap();
        Err(Problem::new("interrupted"))
    });
    assert_eq!(failed, Err(Problem::new("interrupted")));
    assert!(!root.join("thing").exists());

    let made = kept::folder(&root, "thing", |aside| {
        assert!(!aside.join("half").exists(), "what was left over is gone");
        // Making one may need another.
        kept::folder(&root, "inner", |_| Ok(()))?;
        fs::write(aside.join("whole"), "").unwrap();
        Ok(())
    })
    .unwrap();
    assert!(made.join("whole").is_file());
    let again = kept::folder(&root, "thing", |_| Err(Problem::new("made twice")));
    assert_eq!(again, Ok(made));
}
