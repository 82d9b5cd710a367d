# The folder in which Serai keeps what must outlive it. `nomad volume create` makes it on one node, where Serai then runs.
name      = "serai-state"
namespace = "serai"
type      = "host"
plugin_id = "mkdir"

parameters {
  mode = "0700"
}

capability {
  access_mode     = "single-node-single-writer"
  attachment_mode = "file-system"
}
