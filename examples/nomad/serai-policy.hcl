# What Serai may do at Nomad, and nothing more. Written for the namespace `ucloud`; the namespace has to hold Serai's jobs only.
#
#   nomad namespace apply -description "Jobs of UCloud users" ucloud
#   nomad acl policy apply -description "Serai, the UCloud provider" serai examples/nomad/serai-policy.hcl
#   nomad acl token create -name serai -policy serai -type client
#
# `serai doctor` tries each of these.

namespace "ucloud" {
  capabilities = [
    "list-jobs",       # find its jobs again after a restart
    "read-job",        # jobs, allocations, evaluations, events
    "submit-job",      # create, stop, purge
    "read-logs",       # only for work = "volume" and "scratch", where output is not in a shared folder
    "alloc-exec",      # terminals of users and of `serai jobs exec`: Nomad starts whatever it is asked to in the replica, as its user.
                       # Not alloc-node-exec, which would be root of the node
    "alloc-lifecycle", # end one replica

    # only for work = "volume"
    "host-volume-create",
    "host-volume-read",
    "host-volume-delete",
  ]

  variables {
    # all replicas of a job start when its variable is written; below it, for each rank, are its secrets (keys of licenses), in clear for
    # whoever may read them here: give this path to nobody else
    path "nomad/jobs/*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
  }
}

# what the nodes have, and when one goes
node {
  policy = "read"
}

# only for `serai doctor`: event_buffer_size, client.gc_max_allocs, max_kill_timeout
agent {
  policy = "read"
}
