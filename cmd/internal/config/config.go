package config

import "time"

// Config is everything in force, defaults filled in and paths absolute. Nobody
// changes it after [Load]. The doc tag of each field is what the operator's
// manual says about the key; comments here add what a programmer needs.
type Config struct {
	Data      string     `yaml:"data" type:"path" default:"./mqtt-auth-proxy-data" required:"true" doc:"data directory, for everything the proxy itself writes"`
	Listeners []Listener `yaml:"listeners" default:"[{address: '127.0.0.1:1883'}, {address: ':8883', tls: {auto: true}}]" min:"1" doc:"where devices connect; setting one replaces both defaults"`
	Connect   Connect    `yaml:"connect"`
	Limits    Limits     `yaml:"limits"`
	Token     Token      `yaml:"token"`
	Auth      Auth       `yaml:"auth"`
	Upstream  Upstream   `yaml:"upstream"`
	Admin     Admin      `yaml:"admin"`
	Log       Log        `yaml:"log"`
	Shutdown  Shutdown   `yaml:"shutdown"`
	Telemetry Telemetry  `yaml:"telemetry"`

	// Hash names the content that was loaded, in hexadecimal: the config file,
	// the environment and every secret file. A reload with the same hash has
	// nothing new to say. Show it to nobody: a weak secret can be guessed from
	// it.
	Hash string `yaml:"-"`
	// Files are the absolute paths whose content is in Hash. Certificates are
	// not among them; who loads them watches them.
	Files []string `yaml:"-"`
	// Warnings are worth a log line each and stop nothing: secrets that
	// everyone on the machine may read.
	Warnings []Fault `yaml:"-"`

	source      string // the config file as the operator named it
	origins     origins
	secretFiles map[string]string // by path of the secret: the absolute path of its file
}

// Listener is one address that devices connect to.
type Listener struct {
	Address string       `yaml:"address" type:"address" required:"true" doc:"host:port to listen on; an empty host means all addresses"`
	Name    string       `yaml:"name" doc:"label of the listener in logs and metrics; the address when empty"`
	TLS     *ListenerTLS `yaml:"tls"`
}

// ListenerTLS makes a listener speak MQTTS. Either Auto is set or Certificate
// and Key are.
type ListenerTLS struct {
	Auto        bool   `yaml:"auto" default:"false" doc:"use a certificate of the proxy's own CA, made in the data directory on first start"`
	Certificate string `yaml:"certificate" type:"path" doc:"PEM file with the certificate chain, the server's own first"`
	Key         string `yaml:"key" type:"path" doc:"PEM file with the private key"`
	ClientCA    string `yaml:"client_ca" type:"path" doc:"PEM file with the CAs whose client certificates are accepted"`
	ClientAuth  string `yaml:"client_auth" default:"none" oneof:"none|request|require" required:"true" doc:"client certificates: not asked for, verified if a device shows one, or demanded of every device"`
	MinVersion  string `yaml:"min_version" default:"1.2" oneof:"1.2|1.3" required:"true" doc:"lowest TLS version accepted"`
}

// Connect bounds what a device may do before it is trusted.
type Connect struct {
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"time from accept to a complete CONNECT, TLS handshake included"`
	// MaxPacket is in bytes.
	MaxPacket int64    `yaml:"max_packet" type:"size" default:"64KiB" min:"1KiB" max:"16MiB" doc:"largest CONNECT packet accepted"`
	Protocols []string `yaml:"protocols" default:"['3.1', '3.1.1', '5']" oneof:"3.1|3.1.1|5" min:"1" doc:"MQTT versions accepted"`
}

// Limits bounds connections; 0 is unlimited unless the doc tag says otherwise.
type Limits struct {
	Connections        int    `yaml:"connections" default:"0" min:"0" doc:"connections at once, all listeners together; 0 = unlimited"`
	PerAddress         int    `yaml:"per_address" default:"0" min:"0" doc:"connections at once from one client address; 0 = unlimited"`
	Handshakes         int    `yaml:"handshakes" default:"0" min:"0" doc:"TLS handshakes that compute at the same time, the others wait; 0 = automatic, from the number of CPUs"`
	SessionsPerSubject int    `yaml:"sessions_per_subject" default:"0" min:"0" doc:"live sessions of one device; 0 = unlimited"`
	OverLimit          string `yaml:"over_limit" default:"kick_oldest" oneof:"kick_oldest|refuse" required:"true" doc:"who gives way when a device has too many sessions: its oldest, or the newcomer"`
}

// Token says where in the CONNECT the token sits.
type Token struct {
	From []string `yaml:"from" default:"[username]" oneof:"username|password|client_id|user_property:NAME|auth_data|certificate" min:"1" doc:"where in the CONNECT the token sits; the first place that is present counts"`
}

// Auth says who knows which tokens are good.
type Auth struct {
	Sources []Source      `yaml:"sources" default:"[{file: {path: tokens.jsonl}}]" min:"1" doc:"token sources, asked in order until one knows the token"`
	Recheck time.Duration `yaml:"recheck" default:"0s" min:"0s" max:"24h" doc:"how often the sources are asked again about the tokens of live sessions; 0s = never, a token file tells by itself"`
}

// Source is one token source: exactly one of its fields is set.
type Source struct {
	File *FileSource `yaml:"file"`
}

// FileSource is a file of tokens, one JSON object a line.
type FileSource struct {
	Path string `yaml:"path" type:"data path" default:"tokens.jsonl" required:"true" doc:"token file, JSON Lines"`
}

// Upstream is the broker behind the proxy and how the proxy presents itself
// to it. Username, Password and ClientID are templates that this package does
// not read.
type Upstream struct {
	Servers        []Server      `yaml:"servers" type:"server" default:"[bundled]" min:"1" doc:"brokers: bundled alone, or tcp://host:port, tls://host:port, unix:///path"`
	Username       string        `yaml:"username" default:"${subject}" doc:"template of the username sent to the broker; none is sent when empty"`
	Password       Secret        `yaml:"password" doc:"template of the password sent to the broker; none is sent when empty"`
	ClientID       string        `yaml:"client_id" default:"${client_id}" required:"true" doc:"template of the client id sent to the broker"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"5s" min:"10ms" max:"5m" doc:"time to reach the broker and get its CONNACK"`
	TLS            UpstreamTLS   `yaml:"tls"`
}

// UpstreamTLS is used towards tls:// servers.
type UpstreamTLS struct {
	CA          string `yaml:"ca" type:"path" doc:"PEM file with the CAs that may sign the broker's certificate; the system's when empty"`
	Certificate string `yaml:"certificate" type:"path" doc:"PEM file with the client certificate shown to the broker"`
	Key         string `yaml:"key" type:"path" doc:"PEM file with the private key of that certificate"`
	ServerName  string `yaml:"server_name" type:"host" doc:"name that the broker's certificate must carry; the host of the server when empty"`
}

// Admin is the listener of probes, metrics, API and dashboard.
type Admin struct {
	Address   string `yaml:"address" type:"address" default:"127.0.0.1:9883" doc:"host:port of the admin listener; none when empty"`
	TokenFile string `yaml:"token_file" type:"data path" default:"admin-token" required:"true" doc:"file with the bearer token of the admin API, made on first start"`
}

// Log is how the program logs.
type Log struct {
	Level  string `yaml:"level" default:"info" oneof:"debug|info|warn|error" required:"true" doc:"least severe level that is logged"`
	Format string `yaml:"format" oneof:"json|console" doc:"form of a log line; when empty console on a terminal, json elsewhere"`
}

// Shutdown is how the program ends.
type Shutdown struct {
	Drain time.Duration `yaml:"drain" default:"30s" min:"0s" max:"1h" doc:"time over which sessions are asked to leave before they are cut"`
}

// Telemetry is the store behind the bundled broker.
type Telemetry struct {
	Path       string        `yaml:"path" type:"data path" default:"telemetry.db" required:"true" doc:"database file of the bundled broker's telemetry"`
	Retention  time.Duration `yaml:"retention" default:"720h" min:"0s" doc:"age at which telemetry is deleted; 0s = never"`
	Durability string        `yaml:"durability" default:"sync" oneof:"sync|os|none" required:"true" doc:"what a PUBACK promises: sync = on disk, os = handed to the operating system, none = in memory"`
	StrictJSON bool          `yaml:"strict_json" default:"false" doc:"refuse payloads that are not valid JSON instead of reading them leniently"`
}
