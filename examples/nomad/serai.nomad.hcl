# Serai itself as a Nomad job. It finds the agent by the task's own socket and gets in with the task's workload identity: no address, no token.
#
#   nomad namespace apply -description "Serai itself" serai
#   nomad namespace apply -description "Jobs of UCloud users" ucloud
#   nomad acl policy apply -namespace serai -job serai serai-job examples/nomad/serai-policy.hcl
#   nomad volume create examples/nomad/serai-state.volume.hcl
#   nomad var put -namespace serai nomad/jobs/serai settings=@serai.toml    # with [server] state_dir = "/var/lib/serai"
#   nomad job run examples/nomad/serai.nomad.hcl

job "serai" {
  namespace = "serai" # not that of the users' jobs: nothing that runs there may read what is Serai's
  type      = "service"

  group "serai" {
    count = 1 # one server for each state_dir; a second one would wait for the first one's lock

    # the server's state must outlive it: records of jobs, the ledger
    volume "state" {
      type            = "host"
      source          = "serai-state"
      access_mode     = "single-node-single-writer"
      attachment_mode = "file-system"
    }

    network {
      mode = "host"
      port "gateway" {
        static = 8889
      }
    }

    restart {
      attempts = 10
      interval = "10m"
      delay    = "5s"
      mode     = "delay"
    }

    task "serai" {
      driver = "docker"
      user   = "0:0" # makes the folders of jobs and gives each to its drive's user

      config {
        image        = "registry.example.org/serai:1.0.0"
        args         = ["serai", "serve", "--config", "/local/serai.toml"]
        network_mode = "host"
        init         = true

        # the shared file system, at the same path as on the nodes
        mount {
          type     = "bind"
          source   = "/srv/drives"
          target   = "/srv/drives"
          readonly = false
        }
      }

      identity {
        file = true # ${NOMAD_SECRETS_DIR}/nomad_token, renewed by Nomad and read again by Serai
      }

      volume_mount {
        volume      = "state"
        destination = "/var/lib/serai"
      }

      template {
        destination = "local/serai.toml"
        change_mode = "restart" # running jobs do not notice
        data        = <<-TOML
          {{ with nomadVar "nomad/jobs/serai" }}{{ .settings }}{{ end }}
        TOML
      }

      kill_timeout = "20s"

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
