package kit

import "context"

// Call is one operation on one resource or function. It is the operation's context as well:
// it ends when the engine cancels.
type Call[C any] struct {
	context.Context
	Client C
	URN    string
	// OldInputs is what the program asked for before an update.
	OldInputs Props
	log       *logger
}

// Warn shows a warning with the resource, and again at the end of the run.
func (c *Call[C]) Warn(message string) { c.log.send(severityWarning, c.URN, message, false) }

// Info shows a message with the resource, and again at the end of the run.
func (c *Call[C]) Info(message string) { c.log.send(severityInfo, c.URN, message, false) }

// Status shows a passing message on the resource's line.
func (c *Call[C]) Status(message string) { c.log.send(severityInfo, c.URN, message, true) }

// Result is what the vendor reports of a resource: a missing key means "does not report it",
// a nil value means "reports that it is not set".
type Result struct {
	ID   string
	Live Props
}

// Resource translates one kind of resource to a vendor's API.
//
// A Create that made something and then failed returns the id beside the error: the engine
// keeps it in the state with what Read finds, so that nothing is lost.
type Resource[C any] struct {
	Token  string
	Fields []Field

	// Check adds failures that concern several inputs at once.
	Check func(inputs Props) []Failure
	// Plan fills in values that a preview can tell although the API sets them.
	Plan func(state, inputs, planned Props)
	// ReplaceWhen names inputs that replace the resource only in some cases.
	ReplaceWhen func(state, inputs Props, change Change) bool

	Create func(call *Call[C], inputs Props) (Result, error)
	// Read returns a nil Live when the resource is gone. On an import, state is empty.
	Read func(call *Call[C], id string, state Props) (Result, error)
	// Update is nil where every change replaces.
	Update func(call *Call[C], id string, state, inputs Props, changed func(field string) bool) (Result, error)
	Delete func(call *Call[C], id string, state Props) error

	// SecretOutputs names outputs that are secret when one of the given inputs is.
	SecretOutputs map[string][]string
	// Opaque resources have nothing at a vendor to read back.
	Opaque bool
}

// Function translates one data source to a vendor's API.
type Function[C any] struct {
	Token  string
	Fields []Field
	Invoke func(call *Call[C], args Props) (Props, error)
}

// Provider is one plugin.
type Provider[C any] struct {
	Name      string
	Version   string
	Config    []Field
	Connect   func(config Props) (C, error)
	Resources []Resource[C]
	Functions []Function[C]
	// Gone tells whether an error of the vendor's client says that the object does not exist.
	Gone func(error) bool
	// Explain turns a vendor's error into one that tells the operator what to do.
	Explain func(error) error
}
