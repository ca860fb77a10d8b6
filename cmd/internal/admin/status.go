package admin

import "time"

// Status is the answer to GET /v1/status.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	NotReady string    `json:"not_ready,omitempty"`
	// Degraded has what does not work although devices can be served.
	Degraded      []string        `json:"degraded,omitempty"`
	Sources       []SourceStatus  `json:"sources"` // in the order in which they are asked
	Connections   int             `json:"connections"`
	Sessions      int             `json:"sessions"`
	Denials       int             `json:"denials"` // in force, see POST /v1/revocations
	TokenFiles    []FileStatus    `json:"token_files"`
	PasswordFiles []FileStatus    `json:"password_files,omitempty"`
	Certificates  []Certificate   `json:"certificates,omitempty"`
	Upstream      []BrokerStatus  `json:"upstream,omitempty"`
	Replicas      *ReplicasStatus `json:"replicas,omitempty"`
	Presence      PresenceStatus  `json:"presence"`
	Memory        MemoryStatus    `json:"memory"`
	Telemetry     *StoreStatus    `json:"telemetry,omitempty"` // nil without the bundled broker
	Hooks         *HooksStatus    `json:"hooks,omitempty"`
	Config        ConfigStatus    `json:"config"`
	LastReload    *ReloadStatus   `json:"last_reload,omitempty"`
}

// PresenceStatus describes where it is recorded when devices were seen.
type PresenceStatus struct {
	Store string `json:"store"` // the file, or the file with the connection string of the database
	// Error says why nothing can be recorded.
	Error string `json:"error,omitempty"`
}

// HooksStatus describes the delivery of events.
type HooksStatus struct {
	Receiver string   `json:"receiver"` // its host
	Events   []string `json:"events"`
	// Queued is how many events wait. The others are counted since the start.
	Queued        int        `json:"queued"`
	Delivered     uint64     `json:"delivered"`
	Dropped       uint64     `json:"dropped"`  // because there was no room
	Rejected      uint64     `json:"rejected"` // by the receiver
	LastDelivered *time.Time `json:"last_delivered,omitempty"`
	// LastError is why the last request failed, empty if it did not.
	LastError string `json:"last_error,omitempty"`
}

// ConfigStatus describes the configuration in force.
type ConfigStatus struct {
	Fingerprint string    `json:"fingerprint"`
	Loaded      time.Time `json:"loaded"`
}

// FileStatus describes a token file or a password file.
type FileStatus struct {
	Path        string    `json:"path"`
	Entries     int       `json:"entries"`
	Fingerprint string    `json:"sha256"`
	Loaded      time.Time `json:"loaded"`
	// Error says why a newer version is not in force.
	Error    string   `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// SourceStatus describes a token source.
type SourceStatus struct {
	// Name is the kind and the position among the sources of that kind, as in the metrics.
	Name string `json:"name"`
	Host string `json:"host,omitempty"`
	// Up is false while the source cannot decide about tokens whose answers are not remembered.
	// LastError says why, or what else does not work, and Since says since when.
	Up        bool       `json:"up"`
	Since     *time.Time `json:"since,omitempty"`
	LastError string     `json:"last_error,omitempty"`
	// Cache describes the cache in front of the source. It is nil if the source needs none.
	Cache *CacheStatus `json:"cache,omitempty"`
}

// CacheStatus describes the remembered answers of a token source.
type CacheStatus struct {
	Entries int    `json:"entries"`
	Hits    uint64 `json:"hits"`
	Misses  uint64 `json:"misses"`
}

// MemoryStatus describes the memory of the process, in bytes.
type MemoryStatus struct {
	Used  int64 `json:"used"`
	Limit int64 `json:"limit,omitempty"` // 0 means none
	// Full is true while new connections are refused because memory is nearly used up.
	Full bool `json:"full"`
}

// StoreStatus describes the telemetry store of the bundled broker.
type StoreStatus struct {
	// Error says why it cannot write.
	Error string `json:"error,omitempty"`
	// Bytes is the size of its database, 0 if that is not known.
	Bytes int64 `json:"bytes"`
}

// Certificate describes a server certificate in use.
type Certificate struct {
	Listener    string    `json:"listener"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"sha256"`
}

// BrokerStatus describes one external broker.
type BrokerStatus struct {
	Server string `json:"server"`
	// State is one of the states of package pool.
	State    string     `json:"state"`
	Since    *time.Time `json:"since,omitempty"`
	Sessions int        `json:"sessions"`
	Failures int        `json:"failures"`
	// LastError and LastFailed stay after a recovery.
	LastError  string     `json:"last_error,omitempty"`
	LastFailed *time.Time `json:"last_failed,omitempty"`
}

// ReplicasStatus describes the bus and the other replicas.
type ReplicasStatus struct {
	Bus      string          `json:"bus"`
	Name     string          `json:"name"`
	Servers  []BusStatus     `json:"servers"`
	Heard    []ReplicaStatus `json:"heard"` // in the last ten minutes
	CatchUps uint64          `json:"catch_ups"`
}

// BusStatus describes the connection of the bus to one broker.
type BusStatus struct {
	Server    string `json:"server"`
	Connected bool   `json:"connected"`
	LastError string `json:"last_error,omitempty"` // since the last connect
}

// ReplicaStatus describes another replica.
type ReplicaStatus struct {
	Name             string  `json:"name"`
	LastHeardSeconds float64 `json:"last_heard_seconds"`
}

// ReloadStatus is the result of the last reload that was requested, or in which the poll found
// a change.
type ReloadStatus struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Outcome string    `json:"outcome"`
	Error   string    `json:"error,omitempty"`
}
