# Sourced after common.sh and packages.sh, and after scripts/setup has run: packages that only tests need.

test_packages() {
    need git git --version
    need rsync rsync --version
    need attr getfattr --version
    need util-linux flock --version
    need mount mount --version
    need perl-base perl -e 1
    need vim vim --version
    need tar tar --version
    need e2fsprogs mkfs.ext4 -V
    need xfsprogs mkfs.xfs -V
    need btrfs-progs mkfs.btrfs --version
    need quota setquota --version
    need inotify-tools command -v inotifywait
}

# test_requirements: install pytest, ruff, mypy and event loops into .venv.
test_requirements() {
    requirements "$ROOT/scripts/lib/requirements-test.txt" "installing the test tools into .venv"
}
