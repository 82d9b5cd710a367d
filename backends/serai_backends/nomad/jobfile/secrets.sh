# Nomad's copies lie in memory, and its API shows them to nobody. Once they are where the program looks for them, they go.
lay_secrets() {
    mkdir -m 0700 /etc/ucloud/secrets || return 1
    for file in "$NOMAD_SECRETS_DIR"/serai.*; do
        (umask 0377 && cat "$file" >"/etc/ucloud/secrets/${file##*/serai.}") || return 1
        rm -f "$file" 2>/dev/null
    done
    [ -z "$owner" ] || chown -R "$owner" /etc/ucloud/secrets || return 1
    chmod 0500 /etc/ucloud/secrets
}
