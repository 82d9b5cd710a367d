# What a node (and, in `server`, a server) needs for Serai beside the usual. Put it into Nomad's configuration folder and start the agent again.

server {
  event_buffer_size = 10000 # the default of 100 is gone in a busy second
}

client {
  gc_max_allocs    = 500   # the default of 50 throws ended jobs away within seconds
  max_kill_timeout = "30s" # at least jobs.stop_grace_ms
  cni_path         = "/opt/cni/bin"
}

plugin "docker" {
  config {
    allow_privileged = false
    pids_limit       = 16384 # of each container: without it one job can use up the node's
    volumes {
      enabled = true # /work is a folder of the shared file system
    }
    gc {
      image_delay = "24h"
    }
  }
}

# only where the firewall is on or a placement uses it: whoever may submit jobs is root on the node
plugin "raw_exec" {
  config {
    enabled = true
  }
}
