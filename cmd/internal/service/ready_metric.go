package service

import "github.com/prometheus/client_golang/prometheus"

// exportReady makes a metric of what /readyz answers.
func (s *Service) exportReady() {
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mqtt_auth_proxy_ready",
		Help: "1 if devices can be served, 0 while draining, while no broker answers or while the bundled store cannot write.",
	}, func() float64 {
		if s.ready() != nil {
			return 0
		}
		return 1
	}))
}
