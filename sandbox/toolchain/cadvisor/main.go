// cAdvisor as the stack uses it: the official library behind the official flags, with the metrics
// page and the health page and nothing else. The official main program is in a module of its own
// that no module proxy serves.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/cadvisor/cache/memory"
	"github.com/google/cadvisor/container"
	_ "github.com/google/cadvisor/container/docker/install"
	v2 "github.com/google/cadvisor/info/v2"
	"github.com/google/cadvisor/manager"
	"github.com/google/cadvisor/metrics"
	"github.com/google/cadvisor/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

var version = "unknown"

func main() {
	listenIP := flag.String("listen_ip", "", "IP to listen on; empty for all")
	port := flag.Int("port", 8080, "port to listen on")
	kept := flag.String("whitelisted_container_labels", "", "container labels that become labels of the metrics, separated by commas")
	all := flag.Bool("store_container_labels", true, "whether all container labels become labels of the metrics")
	duration := flag.Duration("storage_duration", 2*time.Minute, "how long to keep samples")
	enabled := container.MetricSet{}
	flag.Var(&enabled, "enable_metrics", "the metrics to collect, separated by commas")
	klog.InitFlags(nil)
	flag.Parse()

	containers, err := manager.New(
		memory.New(*duration, nil), sysfs.NewRealSysFs(), manager.HousekeepingConfigFlags, enabled,
		http.DefaultClient, []string{"/"}, nil, "", 0,
	)
	if err != nil {
		log.Fatalf("cadvisor: no manager: %v", err)
	}
	if err := containers.Start(); err != nil {
		log.Fatalf("cadvisor: the manager does not start: %v", err)
	}

	labels := metrics.ContainerLabelsFunc(metrics.DefaultContainerLabels)
	if !*all {
		labels = metrics.BaseContainerLabels(strings.Split(*kept, ","))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.NewPrometheusCollector(containers, labels, enabled, clock.RealClock{}, v2.RequestOptions{
			IdType: v2.TypeName, Count: 1, Recursive: true,
		}),
		metrics.NewPrometheusMachineCollector(containers, enabled),
	)
	pages := http.NewServeMux()
	pages.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	pages.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		_, _ = answer.Write([]byte("ok"))
	})
	address := net.JoinHostPort(*listenIP, strconv.Itoa(*port))
	log.Printf("cadvisor %s listens on %s", version, address)
	server := &http.Server{Addr: address, Handler: pages, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
