package tailscale

import (
	"time"

	"tailscale.com/client/tailscale/v2"

	"overlord/sandbox/providers/kit"
)

var tailnetKey = kit.Resource[*tailscale.Client]{
	Token: "tailscale:index/tailnetKey:TailnetKey",
	Fields: []kit.Field{
		{Name: "description", Type: kit.String, Computed: true, Replace: true},
		{Name: "ephemeral", Type: kit.Bool, Computed: true, Replace: true},
		{Name: "expiry", Type: kit.Number, Computed: true, Replace: true},
		{Name: "preauthorized", Type: kit.Bool, Computed: true, Replace: true},
		{Name: "reusable", Type: kit.Bool, Computed: true, Replace: true},
		{Name: "tags", Type: kit.Set, Computed: true, Replace: true, Elem: kit.Items(kit.String)},
		{Name: "userId", Type: kit.String, Computed: true, Replace: true},
		{Name: "recreateIfInvalid", Type: kit.String, Validate: kit.OneOf("always", "never")},
		{Name: "invalid", Type: kit.Bool, Output: true},
		{Name: "createdAt", Type: kit.String, Output: true},
		{Name: "expiresAt", Type: kit.String, Output: true},
		{Name: "key", Type: kit.String, Output: true, Secret: true},
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		request := tailscale.CreateKeyRequest{
			ExpirySeconds: in.Int("expiry"),
			Description:   in.String("description"),
		}
		wanted := &request.Capabilities.Devices.Create
		wanted.Reusable, wanted.Ephemeral = in.Bool("reusable"), in.Bool("ephemeral")
		wanted.Preauthorized, wanted.Tags = in.Bool("preauthorized"), in.Strings("tags")
		made, err := c.Client.Keys().CreateAuthKey(c, request)
		if err != nil {
			return kit.Result{}, err
		}
		live := keyProps(made)
		// Only this answer ever holds the key itself.
		live["key"] = made.Key
		return kit.Result{ID: made.ID, Live: live}, nil
	},

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		found, err := c.Client.Keys().Get(c, id)
		if tailscale.IsNotFound(err) {
			if len(state) == 0 || recreated(state) {
				return kit.Result{}, nil
			}
			// A single-use key vanishes once it is used. That is its purpose, not a change.
			return kit.Result{ID: id, Live: kit.Props{"invalid": true}}, nil
		}
		if err != nil {
			return kit.Result{}, err
		}
		if found.Invalid && recreated(state) {
			return kit.Result{}, nil
		}
		return kit.Result{ID: id, Live: keyProps(found)}, nil
	},

	// Everything but recreateIfInvalid replaces, and that lies in the state alone.
	Update: func(_ *call, _ string, _, _ kit.Props, _ func(string) bool) (kit.Result, error) {
		return kit.Result{Live: kit.Props{}}, nil
	},

	Delete: func(c *call, id string, _ kit.Props) error { return c.Client.Keys().Delete(c, id) },
}

// recreated tells whether a key that no longer works is to be made anew.
func recreated(state kit.Props) bool {
	switch state.String("recreateIfInvalid") {
	case "always":
		return true
	case "never":
		return false
	}
	return state.Bool("reusable")
}

func keyProps(key *tailscale.Key) kit.Props {
	can := key.Capabilities.Devices.Create
	live := kit.Props{
		"description":   key.Description,
		"ephemeral":     can.Ephemeral,
		"preauthorized": can.Preauthorized,
		"reusable":      can.Reusable,
		"tags":          kit.Texts(can.Tags),
		"invalid":       key.Invalid,
		"createdAt":     key.Created.Format(time.RFC3339),
		"expiresAt":     key.Expires.Format(time.RFC3339),
		"userId":        key.UserID,
	}
	if key.ExpirySeconds != nil {
		// The client reads the API's seconds into a Duration without a unit.
		live["expiry"] = float64(*key.ExpirySeconds)
	}
	return live
}
