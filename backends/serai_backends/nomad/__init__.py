"""Jobs on a cluster of HashiCorp Nomad.

settings    what serai.toml says of the cluster
names       how jobs, groups and variables are called at Nomad
wire        what is read of Nomad's JSON
client/     every call to Nomad: plain ones by python-nomad, streams by our own asyncio client
jobfile/    what Nomad is asked to run: the job, its start script, its firewall; and the same as HCL for people
observed/   what Nomad tells, in the words of serai_backends.model
records     the durable row of each job
life        what has to be done next for a job: a pure function
backend     the Backend that the server holds
"""
