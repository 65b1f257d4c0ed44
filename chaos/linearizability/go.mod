module overlord/chaos/linearizability

go 1.22

// Checks histories for linearizability; what etcd's robustness tests use.
require github.com/anishathalye/porcupine v1.3.1
