package telemetry

// MessageBytes returns how many bytes a stored message counts, see [MaxBytes]. data is its JSON text.
func MessageBytes(data string) int64 { return int64(len(data)) + RowBytes }

// AttributeBytes returns how many bytes an attribute counts that a device has published, see
// [MaxBytes]. value is its JSON text.
func AttributeBytes(key, value string) int64 { return int64(len(key)+len(value)) + RowBytes }

// TooManyBytes returns the error for what would give a device more bytes than it may have stored.
func TooManyBytes() *PayloadError {
	return &PayloadError{Reason: "too many stored bytes for one device", Quota: true}
}
