package config

// ProxyProtocol makes a listener one for load balancers that say whose connection
// they pass on.
type ProxyProtocol struct {
	Trusted []string `yaml:"trusted" type:"network" min:"1" doc:"networks of the load balancers in front, which begin every connection with a PROXY protocol header (version 1 or 2); every other connection is closed"`
}

// edge looks at what stands in front of MQTT.
func (c *checker) edge(path string, l Listener) {
	if p := path + ".proxy_protocol"; l.ProxyProtocol != nil && len(l.ProxyProtocol.Trusted) == 0 && !c.faults.within(p) {
		c.fault(p+".trusted", "is missing; list the networks of the load balancers, or remove the section")
	}
}
