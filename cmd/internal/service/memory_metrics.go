package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// exportMemory makes metrics of the memory that is used.
func exportMemory(r prometheus.Registerer, usage func() host.MemoryUsage) {
	gauge := func(name, help string, value func(host.MemoryUsage) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mqtt_auth_proxy_memory_" + name, Help: help}, func() float64 {
			return value(usage())
		}))
	}
	gauge("used_bytes", "What is taken of the memory limit.", func(u host.MemoryUsage) float64 { return float64(u.Used) })
	gauge("limit_bytes", "The memory that the process may take, 0 for no limit.", func(u host.MemoryUsage) float64 { return float64(u.Limit) })
	gauge("full", "1 while new connections are refused for want of memory.", func(u host.MemoryUsage) float64 { return oneIf(u.Full) })
}
