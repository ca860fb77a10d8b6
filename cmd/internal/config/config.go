package config

import (
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
)

// Config is the configuration in force, with defaults and absolute paths. It does not change
// after [Load]. The doc tag of each field is the text about the key in the operator's manual.
// Comments here are for programmers.
type Config struct {
	Data      string     `yaml:"data" type:"data directory" default:"./mqtt-auth-proxy-data" required:"true" doc:"data directory, for everything the proxy itself writes"`
	Listeners []Listener `yaml:"listeners" default:"[{address: '127.0.0.1:1883'}, {address: ':8883', tls: {auto: true}}]" min:"1" doc:"where devices connect; setting one replaces both defaults"`
	Connect   Connect    `yaml:"connect"`
	Limits    Limits     `yaml:"limits"`
	Token     Token      `yaml:"token"`
	Auth      Auth       `yaml:"auth"`
	Upstream  Upstream   `yaml:"upstream"`
	Topics    Topics     `yaml:"topics"`
	Admin     Admin      `yaml:"admin"`
	Log       Log        `yaml:"log"`
	Shutdown  Shutdown   `yaml:"shutdown"`
	Telemetry Telemetry  `yaml:"telemetry"`
	Replicas  Replicas   `yaml:"replicas"`
	Hooks     Hooks      `yaml:"hooks"`
	Sandbox   string     `yaml:"sandbox" default:"auto" oneof:"auto|off" required:"true" doc:"drop the right to use files that the process does not need, where the system supports it (Linux, Landlock)"`

	// Origins says where the values were set. Its Files do not include certificates, which are
	// watched by the code that loads them.
	schema.Origins `yaml:"-"`
}

// Listener is one address that devices connect to.
type Listener struct {
	Address string       `yaml:"address" type:"address" required:"true" doc:"host:port to listen on; an empty host means all addresses; systemd:NAME takes the socket of that name over from systemd"`
	Name    string       `yaml:"name" doc:"label of the listener in logs and metrics; the address when empty"`
	TLS     *ListenerTLS `yaml:"tls"`
	// ReusePort is SO_REUSEPORT.
	ReusePort bool `yaml:"reuse_port" default:"false" doc:"let another process listen on the same address at the same time, for a restart without a gap"`

	ProxyProtocol *ProxyProtocol `yaml:"proxy_protocol"`
	WebSocket     *WebSocket     `yaml:"websocket"`
}

// ProxyProtocol configures a listener for load balancers that send the client's address.
type ProxyProtocol struct {
	Trusted []string `yaml:"trusted" type:"network" min:"1" doc:"networks of the load balancers in front, which begin every connection with a PROXY protocol header (version 1 or 2); every other connection is closed"`
}

// WebSocket configures a listener for MQTT over WebSocket.
type WebSocket struct {
	Path    []string `yaml:"path" default:"[/mqtt]" min:"1" single:"true" doc:"path of the URL that clients connect to, or a list of them"`
	Origins []string `yaml:"origins" type:"origin" doc:"web pages and apps that may connect, besides pages of the listener's own host: https://app.example, https://*.app.example, file://, app://name, null, or * for all"`
	Trusted []string `yaml:"trusted" type:"network" doc:"networks of reverse proxies whose X-Forwarded-For or Forwarded is believed"`
}

// ListenerTLS configures a listener for MQTT over TLS. Either Auto is set, or Certificate and Key
// are set, or only Certificates is set, and the first of them is the default.
type ListenerTLS struct {
	Auto        bool   `yaml:"auto" default:"false" doc:"use a certificate of the proxy's own CA, made in the data directory on first start"`
	Certificate string `yaml:"certificate" type:"path" doc:"PEM file with the certificate chain, the server's own first"`
	Key         string `yaml:"key" type:"path" doc:"PEM file with the private key"`
	ClientCA    string `yaml:"client_ca" type:"path" doc:"PEM file with the CAs whose client certificates are accepted"`
	ClientCRL   string `yaml:"client_crl" type:"path" doc:"file with revocation lists of those CAs"`
	ClientAuth  string `yaml:"client_auth" default:"none" oneof:"none|request|require" required:"true" doc:"client certificates: not asked for, verified if a device shows one, or demanded of every device"`
	MinVersion  string `yaml:"min_version" default:"1.2" oneof:"1.2|1.3" required:"true" doc:"lowest TLS version accepted"`

	Certificates     []CertificatePair `yaml:"certificates" doc:"further certificates, for devices that ask for one of their names (SNI) or cannot use the first"`
	TicketSecretFile string            `yaml:"ticket_secret_file" type:"path" doc:"file with a secret, 32 bytes or more, by which replicas resume each other's sessions; without it each has keys of its own"`
	Curves           []string          `yaml:"curves" oneof:"X25519MLKEM768|SecP256r1MLKEM768|SecP384r1MLKEM1024|X25519|P-256|P-384|P-521" doc:"key exchanges accepted; when empty Go's choice, post-quantum hybrids included"`
	Compatibility    bool              `yaml:"compatibility" default:"false" doc:"accept what old TLS 1.2 stacks need and Go refuses by itself: RSA key exchange, CBC with SHA-256"`
}

// CertificatePair is a further certificate of a listener.
type CertificatePair struct {
	Certificate string `yaml:"certificate" type:"path" required:"true" doc:"PEM file with the certificate chain"`
	Key         string `yaml:"key" type:"path" required:"true" doc:"PEM file with the private key"`
}

// Connect bounds what a device may do before its token is checked.
type Connect struct {
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"time from accept to a complete CONNECT, TLS handshake included"`
	// MaxPacket is in bytes.
	MaxPacket int64    `yaml:"max_packet" type:"size" default:"64KiB" min:"1KiB" max:"16MiB" doc:"largest CONNECT packet accepted"`
	Protocols []string `yaml:"protocols" default:"['3.1', '3.1.1', '5']" oneof:"3.1|3.1.1|5" min:"1" doc:"MQTT versions accepted"`
}

// Limits bounds connections.
type Limits struct {
	Connections            int           `yaml:"connections" default:"0" min:"0" zero:"none" doc:"connections at once, all listeners together; 0 = unlimited"`
	PerAddress             int           `yaml:"per_address" default:"0" min:"0" zero:"none" doc:"connections at once from one client address; 0 = unlimited"`
	Pending                int           `yaml:"pending" default:"0" min:"0" zero:"default" doc:"connections at once that have not sent a CONNECT yet; beyond that the oldest of the address that has most of them is closed; 0 = a quarter of the file descriptors"`
	Handshakes             int           `yaml:"handshakes" default:"0" min:"0" zero:"default" doc:"TLS handshakes that compute at the same time; others wait; 0 = automatic, from the number of CPUs"`
	SessionsPerSubject     int           `yaml:"sessions_per_subject" default:"0" min:"0" zero:"none" doc:"live sessions of one device; 0 = unlimited"`
	ConnectRate            int           `yaml:"connect_rate" default:"0" min:"0" max:"1000000" zero:"none" doc:"new connections a second, all listeners together; 0 = unlimited"`
	ConnectBurst           int           `yaml:"connect_burst" default:"0" min:"0" max:"1000000" zero:"default" doc:"new connections that may come at once after a rest; 0 = as many as in a second"`
	ConnectRatePerAddress  int           `yaml:"connect_rate_per_address" default:"0" min:"0" max:"1000000" zero:"none" doc:"new connections a second from one client address; 0 = unlimited"`
	ConnectBurstPerAddress int           `yaml:"connect_burst_per_address" default:"0" min:"0" max:"1000000" zero:"default" doc:"new connections that may come from it at once after a rest; 0 = as many as in a second"`
	Memory                 Memory        `yaml:"memory" type:"memory" default:"auto" required:"true" doc:"memory that the process may take: auto = what the control groups allow, off, or a size; at 90 % of it new connections are refused"`
	OverLimit              string        `yaml:"over_limit" default:"kick_oldest" oneof:"kick_oldest|refuse" required:"true" doc:"what happens when a device has too many sessions: its oldest ends, or the new one is refused"`
	Session                SessionLimits `yaml:"session"`
	WriteTimeout           time.Duration `yaml:"write_timeout" default:"60s" min:"1s" max:"1h" doc:"time for which a device or broker may accept no byte although data is waiting for it, before its session ends; a change needs a restart"`
}

// SessionLimits bounds what a session may do if its grant has no limits of its own.
type SessionLimits struct {
	// MaxPacket is in bytes.
	MaxPacket    int64 `yaml:"max_packet" type:"size" default:"0" min:"0" max:"256MiB" zero:"none" doc:"largest packet that a device may send, its header included; 0 = unlimited"`
	PublishRate  int   `yaml:"publish_rate" default:"0" min:"0" max:"1000000" zero:"none" doc:"messages a second that a device may publish; beyond that nothing is read from it until it may go on; 0 = unlimited"`
	PublishBurst int   `yaml:"publish_burst" default:"0" min:"0" max:"1000000" zero:"default" doc:"messages that it may publish at once after a rest; 0 = as many as in a second"`
	// ByteRate is in bytes a second.
	ByteRate      int64  `yaml:"byte_rate" type:"size" default:"0" min:"0" max:"1024GiB" zero:"none" doc:"bytes a second that a device may send, after TLS; beyond that nothing is read from it until it may go on; 0 = unlimited"`
	Subscriptions int    `yaml:"subscriptions" default:"0" min:"0" max:"10000" zero:"none" doc:"topic filters that a device may be subscribed to on one connection; 0 = unlimited"`
	MaxQoS        string `yaml:"max_qos" default:"2" oneof:"0|1|2" required:"true" doc:"highest QoS of messages and subscriptions of a device"`
	Retain        bool   `yaml:"retain" default:"true" doc:"whether a device may publish retained messages"`
}

// Token configures where in the CONNECT the token is.
type Token struct {
	From []string `yaml:"from" default:"[username]" oneof:"username|password|client_id|user_property:NAME|auth_data|websocket_header|websocket_header:NAME|query:NAME|certificate|certificate_cn|certificate_san" min:"1" doc:"where in the CONNECT the token is; the first place that is not empty counts"`
}

// Auth configures the sources that decide about tokens.
type Auth struct {
	Sources []Source      `yaml:"sources" default:"[{file: {path: tokens.jsonl}}]" min:"1" doc:"token sources, asked in order until one knows the token"`
	Cache   Cache         `yaml:"cache"`
	Guard   Guard         `yaml:"guard"`
	Recheck time.Duration `yaml:"recheck" default:"0s" min:"0s" max:"24h" zero:"none" doc:"how often the sources are asked again about the tokens of live sessions; an answer from the last 5s is used again; 0s = never, but once a day with notifications of a database or replicas.bus; changes of a token file take effect without it"`
}

// Source is one token source: exactly one of its fields is set.
type Source struct {
	File     *FileSource     `yaml:"file"`
	HTTP     *HTTPSource     `yaml:"http"`
	JWT      *JWTSource      `yaml:"jwt"`
	Passwd   *PasswdSource   `yaml:"passwd"`
	Postgres *PostgresSource `yaml:"postgres"`
}

// JWTSource checks JSON Web Tokens with the keys of an issuer. Exactly one of
// URL, JWKSFile, PublicKeyFile and SecretFile is set.
type JWTSource struct {
	URL              string        `yaml:"url" doc:"where the issuer publishes its keys (JWK Set)"`
	JWKSFile         string        `yaml:"jwks_file" type:"path" doc:"file with the issuer's keys (JWK Set), instead of url"`
	PublicKeyFile    string        `yaml:"public_key_file" type:"path" doc:"PEM file with the issuer's public keys, instead of url"`
	SecretFile       string        `yaml:"secret_file" type:"path" doc:"file with a secret shared with the issuer, 32 bytes or more, instead of url"`
	Algorithms       []string      `yaml:"algorithms" doc:"accepted algorithms; all that suit the keys when empty"`
	Issuers          []string      `yaml:"issuers" doc:"accepted iss claims; any when empty"`
	Audiences        []string      `yaml:"audiences" doc:"accepted aud claims; tokens must have none when empty"`
	AnyAudience      bool          `yaml:"any_audience" default:"false" doc:"accept tokens for every audience"`
	AllowNoExpiry    bool          `yaml:"allow_no_expiry" default:"false" doc:"accept tokens without exp, which never expire"`
	StartWithoutKeys bool          `yaml:"start_without_keys" default:"false" doc:"start even if the keys cannot be read yet; until then devices are told to try again"`
	Leeway           time.Duration `yaml:"leeway" default:"30s" min:"0s" max:"1h" zero:"none" doc:"how far the issuer's clock may be ahead"`
	Refresh          time.Duration `yaml:"refresh" default:"300s" min:"10s" max:"24h" doc:"longest time until the keys are read again"`
	Subject          string        `yaml:"subject" default:"sub" required:"true" doc:"claim that names the device"`
	ClientID         string        `yaml:"client_id" doc:"claim that lists the client ids that may use the token"`
	Username         string        `yaml:"username" doc:"claim that lists the user names that may use the token"`
	ACL              string        `yaml:"acl" doc:"claim that holds topic rules"`
	Limits           string        `yaml:"limits" doc:"claim that holds limits"`
	Role             string        `yaml:"role" doc:"claim that is device or reader; a reader may read what all devices send"`
	Gateway          string        `yaml:"gateway" doc:"claim that is true for gateways, which may speak for the devices behind them"`
	Attrs            []string      `yaml:"attrs" type:"pair" doc:"attributes for templates, each as name=claim"`
	TLS              UpstreamTLS   `yaml:"tls"`
}

// Cache bounds the cache of answers from HTTP sources.
type Cache struct {
	Size         int           `yaml:"size" default:"100000" min:"1" max:"100000000" doc:"grants remembered"`
	TTL          time.Duration `yaml:"ttl" default:"60s" min:"0s" max:"1h" zero:"none" doc:"how long a grant is used without asking the source again, unless the source says how long; 0s = not at all"`
	NegativeSize int           `yaml:"negative_size" default:"20000" min:"1" max:"100000000" doc:"denials remembered, in addition to grants"`
	NegativeTTL  time.Duration `yaml:"negative_ttl" default:"10s" min:"0s" max:"1m" zero:"none" doc:"how long a denial is used; 0s = not at all"`
	StaleIfError time.Duration `yaml:"stale_if_error" default:"300s" min:"0s" max:"24h" zero:"none" doc:"how much longer a grant is used while the source fails; 0s = not at all"`
	RefreshAhead float64       `yaml:"refresh_ahead" default:"0.8" doc:"fraction of a grant's time after which a hit renews it in the background; 1 = never"`
}

// Guard bounds how many bad tokens reach the sources.
type Guard struct {
	Rate      int      `yaml:"rate" default:"10" min:"1" max:"1000000" doc:"failed checks a second that one client address may cause on average, over all sources"`
	Burst     int      `yaml:"burst" default:"20" min:"1" max:"1000000" doc:"failed checks that one client address may cause at once"`
	Exempt    []string `yaml:"exempt" type:"network" doc:"networks without these bounds, such as that of a gateway"`
	MinLength int      `yaml:"min_length" default:"1" min:"1" max:"65535" doc:"shortest token that a token service is asked about, in bytes"`
	MaxLength int      `yaml:"max_length" default:"16384" min:"1" max:"65535" doc:"longest token that a token service is asked about, in bytes"`
	Prefix    string   `yaml:"prefix" doc:"text that every good token of a token service begins with"`
	Charset   string   `yaml:"charset" doc:"characters that occur in good tokens of a token service; any when empty"`
	Checksum  bool     `yaml:"checksum" default:"false" doc:"do not ask a token service about tokens without the checksum that token create adds"`
}

// HTTPSource is a token service. URL, Headers and Body are templates, which this package
// does not parse.
type HTTPSource struct {
	URL                  string        `yaml:"url" required:"true" doc:"where the token service is: http:// or https://"`
	Preset               string        `yaml:"preset" default:"native" oneof:"native|emqx|emqx4|goauth|vernemq|introspection|status|rabbitmq" required:"true" doc:"contract that the service implements"`
	Method               string        `yaml:"method" oneof:"GET|HEAD|POST|PUT" doc:"HTTP method; that of the preset when empty"`
	Format               string        `yaml:"format" oneof:"json|form|query|none" doc:"form of the request's body; that of the preset when empty"`
	Body                 string        `yaml:"body" doc:"template of the body, instead of the preset's"`
	Headers              []string      `yaml:"headers" type:"header" doc:"further request headers, each as Name: template"`
	AllowStatus          []int         `yaml:"allow_status" doc:"HTTP status codes that mean allowed, whatever the body says"`
	DenyStatus           []int         `yaml:"deny_status" doc:"HTTP status codes that mean denied, whatever the body says"`
	Fields               []string      `yaml:"fields" type:"pair" doc:"where the answer has a field of the native contract, each as field=path"`
	Require              []string      `yaml:"require" type:"pair" doc:"what the answer must say for a grant, each as path=text"`
	Timeout              time.Duration `yaml:"timeout" default:"5s" min:"100ms" max:"1m" doc:"time for one request, a retry included"`
	BearerFile           string        `yaml:"bearer_file" type:"path" doc:"file with the proxy's bearer token for the service"`
	BasicFile            string        `yaml:"basic_file" type:"path" doc:"file with the proxy's user:password for the service"`
	SecretFile           string        `yaml:"secret_file" type:"path" doc:"file with the value of ${secret} in templates"`
	IgnoreCacheControl   bool          `yaml:"ignore_cache_control" default:"false" doc:"remember answers even if their Cache-Control forbids it"`
	ProxyFromEnvironment bool          `yaml:"proxy_from_environment" default:"false" doc:"reach the service through the HTTP proxy that the environment names"`
	Concurrency          int           `yaml:"concurrency" default:"64" min:"1" max:"10000" doc:"requests at the same time; tokens that were never seen before get half of them"`
	TLS                  UpstreamTLS   `yaml:"tls"`
}

// FileSource is a file of tokens, one JSON object a line.
type FileSource struct {
	Path string `yaml:"path" type:"data path" default:"tokens.jsonl" required:"true" doc:"token file, JSON Lines"`
}

// PasswdSource is a file of user names and password hashes that belongs to another program.
type PasswdSource struct {
	Path   string `yaml:"path" type:"path" required:"true" doc:"password file, with user:hash on each line"`
	Format string `yaml:"format" default:"mosquitto" oneof:"mosquitto|htpasswd|goauth" required:"true" doc:"program that the file belongs to: mosquitto ($7$, $6$, argon2id), htpasswd (bcrypt) or goauth, which is mosquitto-go-auth (PBKDF2, bcrypt, argon2id)"`
}

// PostgresSource is a query in a PostgreSQL database.
type PostgresSource struct {
	DSNFile            string        `yaml:"dsn_file" type:"path" required:"true" doc:"file with the connection string of the PostgreSQL database, read again when it changes"`
	Query              string        `yaml:"query" type:"text" doc:"query that finds the row of a device by @token_sha256, @username, @client_id and @address; the tables of store migrate when empty"`
	Timeout            time.Duration `yaml:"timeout" default:"2s" min:"100ms" max:"1m" doc:"time for one lookup, a second attempt included"`
	Connections        int           `yaml:"connections" default:"4" min:"1" max:"64" doc:"largest number of open connections to the database"`
	PreparedStatements bool          `yaml:"prepared_statements" default:"true" doc:"prepare the query once on each connection; false for PgBouncer in transaction mode"`
	Notify             string        `yaml:"notify" doc:"channel on which the database sends notifications of withdrawn tokens; none when empty and query is set"`
	ListenDSNFile      string        `yaml:"listen_dsn_file" type:"path" doc:"file with the connection string for these notifications, if that in dsn_file leads to a connection pooler"`
}

// Upstream is the broker behind the proxy, and what the proxy sends to it. Username,
// Password and ClientID are templates, which this package does not parse.
type Upstream struct {
	Servers        []Server      `yaml:"servers" short:"address" default:"[bundled]" min:"1" doc:"brokers: bundled alone, or addresses, each alone or with its weight"`
	Balance        string        `yaml:"balance" default:"client_id" oneof:"client_id|least_connections|round_robin" required:"true" doc:"which of several brokers a device gets: always the same one, the one with the fewest sessions of this proxy, or one after the other"`
	SlowStart      time.Duration `yaml:"slow_start" default:"30s" min:"0s" max:"1h" zero:"none" doc:"time until a broker that has recovered gets its full share of devices, unless balance is client_id"`
	Username       string        `yaml:"username" default:"${subject}" doc:"template of the username sent to the broker; none is sent when empty"`
	Password       Secret        `yaml:"password" doc:"template of the password sent to the broker; none is sent when empty"`
	ClientID       string        `yaml:"client_id" default:"${subject}:${client_id}" required:"true" doc:"template of the client id sent to the broker"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"5s" min:"10ms" max:"5m" doc:"time to reach a broker and get its CONNACK, over all brokers that are tried for one device"`
	Health         Health        `yaml:"health"`
	ProxyProtocol  string        `yaml:"proxy_protocol" default:"off" oneof:"off|v1|v2" required:"true" doc:"PROXY protocol header that tells the broker the device's address; v2 also its TLS and the name in its certificate. The broker must expect it"`
	TLS            UpstreamTLS   `yaml:"tls"`
}

// Server is one broker. Its address alone may stand for it.
type Server struct {
	Address string `yaml:"address" type:"server" required:"true" doc:"tcp://host:port, tls://host:port, unix:///path, or bundled"`
	Weight  int    `yaml:"weight" default:"1" min:"1" max:"100" doc:"share of the devices, relative to the weights of the other brokers"`
	Backup  bool   `yaml:"backup" default:"false" doc:"devices get this broker only while none of the brokers that are not backups answers"`
}

// Bundled is the entry of Upstream.Servers that selects the broker inside the program.
const Bundled = "bundled"

// Bundled reports whether the broker is the one inside the program.
func (u Upstream) Bundled() bool {
	return slices.ContainsFunc(u.Servers, func(s Server) bool { return s.Address == Bundled })
}

// Health configures how the proxy finds out which brokers answer.
type Health struct {
	Interval    time.Duration `yaml:"interval" default:"10s" min:"0s" max:"1h" zero:"none" doc:"time without an answer after which one of several brokers is probed; 0s = only brokers that are down are probed"`
	Timeout     time.Duration `yaml:"timeout" default:"2s" min:"10ms" max:"1m" doc:"time for one probe"`
	Failures    int           `yaml:"failures" default:"3" min:"1" max:"100" doc:"failures in a row, of devices and probes together, after which a broker is down and devices go to another"`
	MQTT        bool          `yaml:"mqtt" default:"false" doc:"probe with a CONNECT, for which any CONNACK is an answer, instead of a connection alone"`
	Username    string        `yaml:"username" doc:"username of that CONNECT; none is sent when empty"`
	Password    Secret        `yaml:"password" doc:"password of that CONNECT"`
	CutSessions bool          `yaml:"cut_sessions" default:"false" doc:"end the sessions on a broker that is down by its probes while another broker answers, so that their devices come back at once"`
}

// UpstreamTLS configures connections to tls:// brokers and https:// services.
type UpstreamTLS struct {
	CA          string `yaml:"ca" type:"path" doc:"PEM file with the CAs that may sign the other side's certificate; those of the system when empty"`
	Certificate string `yaml:"certificate" type:"path" doc:"PEM file with the client certificate shown to it"`
	Key         string `yaml:"key" type:"path" doc:"PEM file with the private key of that certificate"`
	ServerName  string `yaml:"server_name" type:"host" doc:"name that its certificate must carry; the host when empty"`
}

// Admin configures the listener for probes, metrics, and the admin API.
type Admin struct {
	Address          string    `yaml:"address" type:"address" default:"127.0.0.1:9883" doc:"host:port of the admin listener, or systemd:NAME; none when empty"`
	TokenFile        string    `yaml:"token_file" type:"data path" default:"admin-token" required:"true" doc:"file with the token of the role operate, which may do everything; made on first start"`
	ReadTokenFile    string    `yaml:"read_token_file" type:"data path" default:"admin-read-token" doc:"file with the token of the role read, which sees status, sessions, refusals, telemetry and metrics, and changes nothing; made on first start; no such role when empty"`
	MetricsTokenFile string    `yaml:"metrics_token_file" type:"data path" default:"admin-metrics-token" doc:"file with the token of the role metrics, which only reads /metrics; made on first start; no such role when empty"`
	TLS              *AdminTLS `yaml:"tls"`
	Hosts            []string  `yaml:"hosts" type:"host" doc:"further names by which browsers may reach the admin side; at these they may sign in even without tls"`
	Refusals         int       `yaml:"refusals" default:"10000" min:"0" max:"100000" zero:"none" doc:"number of refusals that are kept in memory, see GET /v1/refusals; each takes up to 1 KiB"`
	PushSecretFile   string    `yaml:"push_secret_file" type:"path" doc:"file with the secret, 32 bytes or more, that token services sign revocations with, see POST /v1/push; when empty no such revocation is accepted"`
}

// AdminTLS configures HTTPS. Either Auto is set, or Certificate and Key are.
type AdminTLS struct {
	Auto        bool   `yaml:"auto" default:"false" doc:"use a certificate of the proxy's own CA, as listeners[].tls.auto does"`
	Certificate string `yaml:"certificate" type:"path" doc:"PEM file with the certificate chain, the server's own first"`
	Key         string `yaml:"key" type:"path" doc:"PEM file with the private key"`
	MinVersion  string `yaml:"min_version" default:"1.2" oneof:"1.2|1.3" required:"true" doc:"lowest TLS version accepted"`
}

// Log configures the log of the program.
type Log struct {
	Level          string `yaml:"level" default:"info" oneof:"debug|info|warn|error" required:"true" doc:"lowest level that is logged"`
	Format         string `yaml:"format" oneof:"json|console" doc:"form of a log line; when empty console on a terminal, json elsewhere"`
	Sessions       bool   `yaml:"sessions" default:"false" doc:"log the start of each session at level info instead of debug; its end is always at level info"`
	LinesPerSecond int    `yaml:"lines_per_second" default:"10" min:"1" max:"100000" doc:"lines a second on average of each kind (message and reason); ten times as many at once, and a hundred times as many at level debug; further lines are counted but not logged"`
}

// Shutdown configures how the program ends.
type Shutdown struct {
	Delay  time.Duration `yaml:"delay" default:"0s" min:"0s" max:"1h" zero:"none" doc:"time for which the program continues to serve devices while /readyz is already 503, so that load balancers notice"`
	Drain  time.Duration `yaml:"drain" default:"30s" min:"0s" max:"1h" zero:"none" doc:"time for sessions to end, after the delay; then they are cut"`
	Spread time.Duration `yaml:"spread" default:"10s" min:"0s" max:"1h" zero:"none" doc:"longest time over which sessions are ended one after the other, at most half of drain; a few sessions take 2ms each; 0s = all at once"`
}

// Topics maps topics of devices to topics of the broker, and has the topic rules for devices whose
// grant has none.
type Topics struct {
	Preset     string      `yaml:"preset" oneof:"thingsboard" doc:"rules that come after those of topics.map and map the device topics of ThingsBoard to topics of each device"`
	Map        []TopicRule `yaml:"map" doc:"rules that map topics of devices to topics of the broker; the first whose device side matches decides"`
	Unmapped   string      `yaml:"unmapped" default:"pass" oneof:"pass|refuse" required:"true" doc:"whether topics that no rule of the map covers pass unchanged or are refused"`
	Forbidden  string      `yaml:"forbidden" doc:"characters that no topic or filter of a device may have, nor a subject in the map; RabbitMQ needs .*"`
	ACL        []ACLRule   `yaml:"acl" doc:"topic rules for sessions whose grant has none, for the topics as devices write them; the first that matches decides"`
	ACLNoMatch string      `yaml:"acl_no_match" default:"deny" oneof:"deny|defer" required:"true" doc:"what happens to topics that no rule of topics.acl matches: deny, or defer to the broker"`
}

// TopicRule maps a topic, or with /# at the end of both sides a subtree.
type TopicRule struct {
	Device string `yaml:"device" required:"true" doc:"topic that devices use, or a subtree that ends in /#"`
	Broker string `yaml:"broker" required:"true" doc:"the topic at the broker; whole levels may be ${subject} or ${attrs.NAME}"`
}

// ACLRule is a topic rule. See authz.Rule.
type ACLRule struct {
	Permission string   `yaml:"permission" default:"allow" oneof:"allow|deny" required:"true" doc:"whether the rule allows or denies what it matches"`
	Action     string   `yaml:"action" default:"all" oneof:"publish|subscribe|all" required:"true" doc:"operations that the rule matches"`
	Topics     []string `yaml:"topics" min:"1" doc:"topic filters that the rule matches; may have placeholders such as ${subject}"`
	QoS        []int    `yaml:"qos" doc:"QoS levels that the rule matches; all when empty"`
	Retain     string   `yaml:"retain" oneof:"true|false" doc:"retain flag of the messages that the rule matches; both when empty"`
}

// Telemetry configures the store behind the bundled broker.
type Telemetry struct {
	Path        string        `yaml:"path" type:"data path" default:"telemetry.db" doc:"database file of the bundled broker's telemetry, unless postgres is set"`
	Retention   time.Duration `yaml:"retention" default:"720h" min:"0s" zero:"none" doc:"age at which telemetry is deleted; 0s = never"`
	Durability  string        `yaml:"durability" default:"sync" oneof:"sync|os|none" required:"true" doc:"what a PUBACK promises: sync = on disk, os = handed to the operating system, none = in memory; PostgreSQL decides for itself"`
	MinFree     int64         `yaml:"min_free" type:"size" default:"64MiB" min:"0" zero:"none" doc:"disk space that the bundled broker leaves free: with less, nothing is stored and /readyz is 503; 0 = until the disk is full; without effect with postgres"`
	MaxKeys     int           `yaml:"max_keys" default:"10000" min:"1" max:"100000" doc:"telemetry keys of one device, and of all devices behind a gateway together; a payload that would add one more is refused"`
	MaxBytes    int64         `yaml:"max_bytes" type:"size" default:"8GiB" min:"1MiB" doc:"bytes that one device, or all devices behind a gateway together, may have stored; a payload beyond them is refused until retention or a deletion makes room"`
	ReaderQueue int64         `yaml:"reader_queue" type:"size" default:"256MiB" min:"16MiB" doc:"bytes of sessions.db in which messages wait for one session of a reader; beyond it the oldest are dropped, and beyond four times as much for all sessions of readers"`
	StrictJSON  bool          `yaml:"strict_json" default:"false" doc:"refuse payloads that are not valid JSON instead of reading them leniently"`
	CastText    bool          `yaml:"cast_text" default:"true" doc:"store texts that look like decimal numbers, such as \"1.10\", as numbers, as ThingsBoard does; no effect with strict_json, which never does"`
	Postgres    *Postgres     `yaml:"postgres"`
}

// Postgres makes a PostgreSQL database the store behind the bundled broker.
type Postgres struct {
	DSNFile     string `yaml:"dsn_file" type:"path" required:"true" doc:"file with the connection string of the PostgreSQL database that stores telemetry, read at each connect"`
	Connections int    `yaml:"connections" default:"4" min:"1" max:"64" doc:"connections that write; as many again are opened for readers when they are needed"`
}

// Hooks configures the service that gets an event when a device connects or disconnects.
type Hooks struct {
	URL        string      `yaml:"url" type:"receiver" doc:"service that gets an HTTP request with events of devices, http:// or https://; none when empty"`
	SecretFile string      `yaml:"secret_file" type:"path" doc:"file with the secret, 32 bytes or more, that the requests are signed with"`
	Events     []string    `yaml:"events" default:"[connected, disconnected, refused]" oneof:"connected|disconnected|refused" min:"1" doc:"names of the events that are sent"`
	TLS        UpstreamTLS `yaml:"tls"`
}

// Replicas connects this proxy to the others of an installation.
type Replicas struct {
	Bus          string `yaml:"bus" default:"none" oneof:"none|mqtt|postgres" required:"true" doc:"how several proxies tell each other what is withdrawn: not at all, through the brokers in upstream.servers, which must speak MQTT 5.0, or through a PostgreSQL database"`
	SecretFile   string `yaml:"secret_file" type:"path" doc:"file with the secret, 32 bytes or more, that all of them share"`
	Topic        string `yaml:"topic" default:"mqtt-auth-proxy/bus" required:"true" doc:"topic of the bus, or its channel in PostgreSQL; all of them need the same, and devices must not use it"`
	Name         string `yaml:"name" doc:"name of this proxy for the others; the name of the machine when empty"`
	Username     string `yaml:"username" doc:"user name with which the proxy itself connects to the brokers; none is sent when empty"`
	PasswordFile string `yaml:"password_file" type:"path" doc:"file with the password for it, read at each connect"`
	DSNFile      string `yaml:"dsn_file" type:"path" doc:"file with the connection string of the PostgreSQL database for bus: postgres, read again when it changes; it must lead to the database itself, not to a pooler"`
}

// Enabled reports whether there is a bus.
func (r Replicas) Enabled() bool { return r.Bus != "none" }

// OnBrokers reports whether the bus is a topic of the brokers.
func (r Replicas) OnBrokers() bool { return r.Bus == "mqtt" }
