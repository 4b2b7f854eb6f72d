# Sourced after common.sh: system packages. Each is tested by using it, before and after the installation.

missing=() said=()

# need PACKAGES COMMAND...: the packages (Debian's names, separated by blanks) are missing if the command fails. The
# command is also looked for in the directories of root's PATH.
need() {
    local names=$1 output
    shift
    output=$(PATH=$PATH:/usr/sbin:/sbin "$@" 2>&1 </dev/null) && return
    # shellcheck disable=SC2206 # One word a package.
    missing+=($names)
    said+=("$*: ${output:-fails}")
}

# provide CHECK: install the packages that CHECK, a function that calls `need`, finds missing; exit if this is
# impossible.
provide() {
    local check=$1 sudo=()
    missing=() said=()
    "$check"
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        die "missing: ${missing[*]} (Debian's names), and there is no apt-get here: install them by hand"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            die "missing: ${missing[*]}, and there is no sudo here; as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    run "updating the list of system packages" "${sudo[@]}" apt-get update -q
    run "installing system packages: ${missing[*]}" \
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    missing=() said=()
    "$check"
    [ ${#missing[@]} -eq 0 ] || {
        say "${said[@]}"
        die "${missing[*]}: installed, and still this does not work"
    }
}
