"""Jobs on a cluster of HashiCorp Nomad.

settings    what serai.toml says of the cluster
names       how jobs, groups and variables are called at Nomad
wire        what is read of Nomad's JSON
client/     every call to Nomad: plain ones by python-nomad, streams by our own asyncio client
jobfile/    what Nomad is asked to run: the job, its start script, its firewall; and the same as HCL for people
observed/   what Nomad tells, in the words of serai_backends.model

records     the durable row of each job
view        what is known of one job now; store: of all, and the only way to change a row
life        what has to be done next for a job: a pure function
actions     the steps of life, carried out
line, room  who goes to Nomad next, and how much room it seems to have
secrets     how the content of jobs' secrets gets to their nodes
doors       which jobs reach each other through their firewalls
feed        the event stream and the lists: what happens at the cluster
engine      moves jobs by all of these
strays      jobs of ours at Nomad that no row asks for
backend     the Backend that the server holds; ground: what its parts stand on

volumes, remote_logs    for clusters without a shared file system
doctor, doctor_nodes    what stands between Serai and jobs on a cluster
"""
