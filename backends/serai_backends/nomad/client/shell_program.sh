# Becomes the program, or the best shell that is there.
echo "serai-shell $serai_shell"
[ -z "$serai_terminal" ] || export TERM=xterm-256color
unset serai_shell serai_terminal
[ $# -eq 0 ] || exec "$@"
for serai_name in "${SHELL-}" bash zsh fish; do
    case $serai_name in '' | */nologin | */false | */true) continue ;; esac
    serai_at=$(command -v "$serai_name" 2>/dev/null) && [ -x "$serai_at" ] || continue
    export SHELL="$serai_at"
    exec "$serai_at"
done
export SHELL=/bin/sh
exec sh
