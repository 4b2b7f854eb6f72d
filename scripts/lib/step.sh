#!/usr/bin/env bash
# Steps of scripts/test that are more than one command: step.sh NAME [ARGUMENT...]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$ROOT/scripts/lib/packages.sh"
. "$ROOT/scripts/lib/test_tools.sh"
cd "$ROOT"

tools() { # tools [STEP...]: the project built, and what only tests need; packages for all steps or these
    local steps=" $* "
    scripts/setup
    case $steps in
        "  " | *" cargo "* | *" python "* | *" mount "* | *" system "*) provide test_packages ;;
    esac
    test_requirements
}

# One of the lints is incompatible_msrv: it finds code newer than the oldest supported Rust without that Rust.
lints() {
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
    # Built as by users: without the features, the layers of the engine are not public.
    cargo clippy --workspace --locked -- -D warnings
    # The items that the engine's public API names are exported with it.
    cargo clippy --locked -p persist-core --lib -- -D warnings -D unnameable_types
}

stubs() {
    local files=()
    mapfile -t files < <(find pymod/python -name '*.pyi' | sort)
    [ ${#files[@]} -gt 0 ] || die "no stubs"
    "$VENV/bin/mypy" --strict --cache-dir=/dev/null "${files[@]}"
    "$VENV/bin/mypy" --strict --cache-dir=/dev/null examples
    "$PY" -m mypy.stubtest persist pbase --allowlist pymod/stubtest.allow
}

# Type-check the fuzz targets: they are not a part of the workspace, so no other step compiles them. libfuzzer-sys is a
# library in C++. The stable toolchain takes the flags of the sanitizers with RUSTC_BOOTSTRAP.
fuzz_targets() {
    local cxx=${CXX:-c++}
    # shellcheck disable=SC2086 # CXX may hold options, as for make.
    if ! $cxx --version >/dev/null 2>&1; then
        printf '1 ignored: there is no C++ compiler (%s), and libfuzzer-sys needs one\n' "$cxx"
    elif RUSTC_BOOTSTRAP=1 cargo check -q --manifest-path core/fuzz/Cargo.toml --all-targets --target-dir "$TARGET/fuzz"; then
        printf '1 passed: the fuzz targets compile\n'
    else
        printf '1 failed: the fuzz targets do not compile\n'
        return 1
    fi
}

# Build with the oldest supported Rust, the newest, and the next, as far as they are installed. Warnings are errors here
# and in clippy only: new warnings of a newer compiler must not break a user's build.
toolchains() {
    local oldest installed name chain code=0
    oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    installed=$(rustup toolchain list 2>/dev/null | sed 's/ .*//') || true
    for name in "$oldest" stable nightly; do
        if ! chain=$(grep -m1 -E "^${name//./\\.}(\\.[0-9]+)?(-|\$)" <<<"$installed"); then
            printf '1 ignored: Rust %s is not there (rustup toolchain install %s)\n' "$name" "$name"
        elif CARGO_INCREMENTAL=0 RUSTFLAGS="-D warnings" cargo "+$chain" check -q --locked --workspace --all-targets --all-features \
            --target-dir "$TARGET/rust-$name"; then
            printf '1 passed: Rust %s\n' "$chain"
        else
            printf '1 failed: Rust %s\n' "$chain"
            code=1
        fi
    done
    return $code
}

"$@"
