# Sourced by scripts/install and scripts/uninstall: what is installed where, and the list of it.
#
# A line of the list is KIND, PATH, SUM, separated by tabs. KIND is file (SUM: its sha256), link (SUM: its target) or
# directory (made by the installation; no SUM). Paths are without DESTDIR.

prefix=/usr/local
DESTDIR=${DESTDIR:-}

# check_prefix: check the prefix, and derive the places from it.
check_prefix() {
    case $prefix in
        /*) ;;
        *) die "--prefix $prefix: an absolute path is needed" ;;
    esac
    case $prefix$DESTDIR in
        *[$'\t\n']*) die "a tab or a line end in --prefix or DESTDIR is not possible" ;;
    esac
    prefix=${prefix%/}
    prefix_named=$([ "$prefix" = /usr/local ] || echo yes)
    list=$DESTDIR$prefix/share/persist/installed
    # Where /sbin is a link to /usr/sbin, packages must not contain it.
    helpers=/sbin
    [ ! -L /sbin ] || helpers=/usr/sbin
}

# plan: print a line for each file: KIND or MODE, PATH, and where its content is or what it links to.
plan() {
    local name
    printf '%s\t%s\t%s\n' \
        755 "$prefix/bin/persist" "$VENV/bin/persist" \
        755 "$prefix/bin/mount.persist" "$VENV/bin/mount.persist" \
        644 "$prefix/share/man/man1/persist.1" "$ROOT/core/persist.1" \
        644 "$prefix/share/man/man8/mount.persist.8" "$ROOT/fuse/mount.persist.8" \
        644 "$prefix/share/man/man8/umount.persist.8" "$ROOT/fuse/umount.persist.8" \
        644 "$prefix/share/doc/persist/SEMANTICS.md" "$ROOT/fuse/SEMANTICS.md"
    for name in mount.persist umount.persist mount.fuse.persist umount.fuse.persist; do
        # With a prefix whose bin is the helpers' directory the program itself is there.
        [ "$(readlink -m "$prefix/bin/$name")" = "$(readlink -m "$helpers/mount.persist")" ] ||
            printf '%s\t%s\t%s\n' link "$helpers/$name" "$prefix/bin/mount.persist"
    done
}

sum_of() { sha256sum <"$1" | cut -d' ' -f1; }

# is_listed PATH: whether an earlier installation put it there.
is_listed() { [ -f "$list" ] && cut -f2 "$list" | grep -qxF -- "$1"; }

# refuse_foreign KIND PATH SOURCE: refuse to replace what something else put there.
refuse_foreign() {
    local at=$DESTDIR$2
    [ -e "$at" ] || [ -L "$at" ] || return 0
    [ "$force" = 0 ] || return 0
    is_listed "$2" && return
    die "$at is there, and was not installed by scripts/install: remove it, or use --force"
}

# make_directory PATH: make a directory and its parents, and list those that were missing.
make_directory() {
    [ -d "$DESTDIR$1" ] && return
    make_directory "$(dirname "$1")"
    mkdir -m 755 "$DESTDIR$1"
    printf 'directory\t%s\t\n' "$1" >>"$list.new"
}

# begin_list: begin the list, with the directories that an earlier installation made.
begin_list() {
    local missing=() at
    at=$(dirname "${list#"$DESTDIR"}")
    while [ ! -d "$DESTDIR$at" ]; do
        missing=("$at" "${missing[@]}")
        at=$(dirname "$at")
    done
    mkdir -p "$(dirname "$list")"
    : >"$list.new"
    [ ! -f "$list" ] || grep '^directory' "$list" >>"$list.new" || true
    for at in "${missing[@]}"; do printf 'directory\t%s\t\n' "$at" >>"$list.new"; done
    # What is put from here on is listed, even if a later step fails.
    trap 'end_list' EXIT
}

# end_list: put the list in its place. Files of the earlier list that are not installed any more stay listed.
end_list() {
    trap - EXIT
    if [ -f "$list" ]; then
        while IFS=$'\t' read -r kind path sum; do
            cut -f2 "$list.new" | grep -qxF -- "$path" || printf '%s\t%s\t%s\n' "$kind" "$path" "$sum" >>"$list.new"
        done <"$list"
    fi
    mv -f "$list.new" "$list"
}

# put_file PATH SOURCE MODE: by rename, since a mount may be running from the old file.
put_file() {
    make_directory "$(dirname "$1")"
    install -m "$3" "$2" "$DESTDIR$1.new"
    mv -f "$DESTDIR$1.new" "$DESTDIR$1"
    printf 'file\t%s\t%s\n' "$1" "$(sum_of "$DESTDIR$1")" >>"$list.new"
}

put_link() { # put_link PATH TARGET
    if ! make_directory "$(dirname "$1")" || ! ln -sfn "$2" "$DESTDIR$1"; then
        die "$DESTDIR$1 cannot be made: mount(8) finds the filesystem only with it. Run scripts/install as root, or" \
            "call mount.persist itself"
    fi
    printf 'link\t%s\t%s\n' "$1" "$2" >>"$list.new"
}

# remove_own KIND PATH SUM: remove it if it is as it was installed. A file that is gone already is not a failure.
remove_own() {
    local at=$DESTDIR$2
    [ -e "$at" ] || [ -L "$at" ] || return 0
    case $1 in
        file) [ ! -L "$at" ] && [ -f "$at" ] && [ "$(sum_of "$at")" = "$3" ] ;;
        link) [ -L "$at" ] && [ "$(readlink "$at")" = "$3" ] ;;
        *) false ;;
    esac || { say "left, because it was changed: $at"; return 1; }
    rm -f "$at"
}
