package hcloud

import (
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var sshKey = kit.Resource[*hcloud.Client]{
	Token: "hcloud:index/sshKey:SshKey",
	Fields: []kit.Field{
		{Name: "name", Type: kit.String, Autoname: 63},
		{Name: "publicKey", Type: kit.String, Required: true, Replace: true, Same: sameKey},
		{Name: "labels", Type: kit.Map, Validate: validateLabels},
		{Name: "fingerprint", Type: kit.String, Output: true},
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		key, _, err := c.Client.SSHKey.Create(c, hcloud.SSHKeyCreateOpts{
			Name: in.String("name"), PublicKey: in.String("publicKey"), Labels: in.StringMap("labels"),
		})
		if err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: formatID(key.ID)}, nil
	},

	Read: byID(func(c *call, id int64) (*hcloud.SSHKey, *hcloud.Response, error) {
		return c.Client.SSHKey.GetByID(c, id)
	}, func(key *hcloud.SSHKey, _ kit.Props) kit.Props {
		return kit.Props{
			"name":        key.Name,
			"publicKey":   key.PublicKey,
			"labels":      kit.TextMap(key.Labels),
			"fingerprint": key.Fingerprint,
		}
	}),

	Update: func(c *call, id string, _, in kit.Props, changed func(string) bool) (kit.Result, error) {
		number, err := parseID(id)
		if err != nil {
			return kit.Result{}, err
		}
		key := &hcloud.SSHKey{ID: number}
		if changed("name") {
			if _, _, err := c.Client.SSHKey.Update(c, key, hcloud.SSHKeyUpdateOpts{Name: in.String("name")}); err != nil {
				return kit.Result{}, err
			}
		}
		if changed("labels") {
			if _, _, err := c.Client.SSHKey.Update(c, key, hcloud.SSHKeyUpdateOpts{Labels: labels(in)}); err != nil {
				return kit.Result{}, err
			}
		}
		return kit.Result{}, nil
	},

	Delete: deleteByID(func(c *call, id int64, _ kit.Props) error {
		_, err := c.Client.SSHKey.Delete(c, &hcloud.SSHKey{ID: id})
		return err
	}),
}

// sameKey: the API drops the newline at the end of a key file.
func sameKey(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	return strings.TrimSpace(a) == strings.TrimSpace(b)
}
