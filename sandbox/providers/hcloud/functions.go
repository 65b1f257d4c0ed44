package hcloud

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"overlord/sandbox/providers/kit"
)

var byNameOrID = []kit.Field{{Name: "id", Type: kit.Number}, {Name: "name", Type: kit.String}}

var getServerType = kit.Function[*hcloud.Client]{
	Token: "hcloud:index/getServerType:getServerType", Fields: byNameOrID,
	Invoke: func(c *call, args kit.Props) (kit.Props, error) {
		found, _, err := c.Client.ServerType.Get(c, nameOrID(args))
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, fmt.Errorf("there is no server type %q", nameOrID(args))
		}
		return serverTypeProps(found), nil
	},
}

var getServerTypes = kit.Function[*hcloud.Client]{
	Token: "hcloud:index/getServerTypes:getServerTypes",
	Invoke: func(c *call, _ kit.Props) (kit.Props, error) {
		all, err := c.Client.ServerType.All(c)
		if err != nil {
			return nil, err
		}
		out := kit.Props{"id": "server_types"}
		var types, ids, names, descriptions []any
		for _, found := range all {
			types = append(types, map[string]any(serverTypeProps(found)))
			ids = append(ids, formatID(found.ID))
			names = append(names, found.Name)
			descriptions = append(descriptions, found.Description)
		}
		out["serverTypes"], out["serverTypeIds"], out["names"], out["descriptions"] = types, ids, names, descriptions
		return out, nil
	},
}

var getLocation = kit.Function[*hcloud.Client]{
	Token: "hcloud:index/getLocation:getLocation", Fields: byNameOrID,
	Invoke: func(c *call, args kit.Props) (kit.Props, error) {
		found, _, err := c.Client.Location.Get(c, nameOrID(args))
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, fmt.Errorf("there is no location %q", nameOrID(args))
		}
		return locationProps(found), nil
	},
}

var getLocations = kit.Function[*hcloud.Client]{
	Token:  "hcloud:index/getLocations:getLocations",
	Fields: []kit.Field{{Name: "locationIds", Type: kit.List}},
	Invoke: func(c *call, _ kit.Props) (kit.Props, error) {
		all, err := c.Client.Location.All(c)
		if err != nil {
			return nil, err
		}
		out := kit.Props{"id": "locations"}
		var locations, ids, names, descriptions []any
		for _, found := range all {
			locations = append(locations, map[string]any(locationProps(found)))
			ids = append(ids, formatID(found.ID))
			names = append(names, found.Name)
			descriptions = append(descriptions, found.Description)
		}
		out["locations"], out["locationIds"], out["names"], out["descriptions"] = locations, ids, names, descriptions
		return out, nil
	},
}

var getImage = kit.Function[*hcloud.Client]{
	Token: "hcloud:index/getImage:getImage",
	Fields: append([]kit.Field{
		{Name: "includeDeprecated", Type: kit.Bool},
		{Name: "mostRecent", Type: kit.Bool},
		{Name: "selector", Type: kit.String},
		{Name: "withArchitecture", Type: kit.String},
		{Name: "withSelector", Type: kit.String},
		{Name: "withStatuses", Type: kit.List, Elem: kit.Items(kit.String)},
	}, byNameOrID...),
	Invoke: func(c *call, args kit.Props) (kit.Props, error) {
		found, err := findImage(c, args)
		if err != nil {
			return nil, err
		}
		out := kit.Props{
			"id":           float64(found.ID),
			"name":         found.Name,
			"type":         string(found.Type),
			"description":  found.Description,
			"created":      found.Created.Format(time.RFC3339),
			"osFlavor":     found.OSFlavor,
			"osVersion":    found.OSVersion,
			"architecture": string(found.Architecture),
			"rapidDeploy":  found.RapidDeploy,
			"labels":       kit.TextMap(found.Labels),
			"deprecated":   formatTime(found.Deprecated),
		}
		for name, value := range args {
			if _, set := out[name]; !set {
				out[name] = value
			}
		}
		return out, nil
	},
}

func findImage(c *call, args kit.Props) (*hcloud.Image, error) {
	if args.Has("id") {
		found, _, err := c.Client.Image.GetByID(c, args.Int("id"))
		if err == nil && found == nil {
			err = fmt.Errorf("there is no image with id %d", args.Int("id"))
		}
		return found, err
	}
	architecture := hcloud.ArchitectureX86
	if args.Has("withArchitecture") {
		architecture = hcloud.Architecture(args.String("withArchitecture"))
	}
	opts := hcloud.ImageListOpts{
		Name: args.String("name"), IncludeDeprecated: args.Bool("includeDeprecated"),
		Architecture: []hcloud.Architecture{architecture},
	}
	opts.LabelSelector = strings.TrimSpace(args.String("withSelector") + args.String("selector"))
	for _, status := range args.Strings("withStatuses") {
		opts.Status = append(opts.Status, hcloud.ImageStatus(status))
	}
	all, err := c.Client.Image.AllWithOpts(c, opts)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 && args.Bool("mostRecent") {
		slices.SortFunc(all, func(a, b *hcloud.Image) int { return b.Created.Compare(a.Created) })
		all = all[:1]
	}
	switch len(all) {
	case 0:
		return nil, fmt.Errorf("there is no such image for architecture %s", architecture)
	case 1:
		return all[0], nil
	}
	return nil, fmt.Errorf("%d images match; set mostRecent or narrow the search", len(all))
}

func nameOrID(args kit.Props) string {
	if args.Has("id") {
		return args.String("id")
	}
	return args.String("name")
}

func serverTypeProps(found *hcloud.ServerType) kit.Props {
	places := []any{}
	for _, place := range found.Locations {
		entry := map[string]any{
			"isDeprecated":         place.IsDeprecated(),
			"deprecationAnnounced": formatTime(place.DeprecationAnnounced()),
			"unavailableAfter":     formatTime(place.UnavailableAfter()),
			"available":            place.Available,
			"recommended":          place.Recommended,
		}
		if place.Location != nil {
			entry["id"], entry["name"] = float64(place.Location.ID), place.Location.Name
		}
		places = append(places, entry)
	}
	return kit.Props{
		"id":           float64(found.ID),
		"name":         found.Name,
		"description":  found.Description,
		"category":     found.Category,
		"cores":        float64(found.Cores),
		"memory":       float64(found.Memory),
		"disk":         float64(found.Disk),
		"storageType":  string(found.StorageType),
		"cpuType":      string(found.CPUType),
		"architecture": string(found.Architecture),
		// Deprecated in the API, which always answers 0.
		"includedTraffic":      0.0,
		"isDeprecated":         found.IsDeprecated(),
		"deprecationAnnounced": formatTime(found.DeprecationAnnounced()),
		"unavailableAfter":     formatTime(found.UnavailableAfter()),
		"locations":            places,
	}
}

func locationProps(found *hcloud.Location) kit.Props {
	return kit.Props{
		"id":          float64(found.ID),
		"name":        found.Name,
		"description": found.Description,
		"country":     found.Country,
		"city":        found.City,
		"latitude":    found.Latitude,
		"longitude":   found.Longitude,
		"networkZone": string(found.NetworkZone),
	}
}

func formatTime(at time.Time) string {
	if at.IsZero() || at.Unix() == 0 {
		return ""
	}
	return at.Format(time.RFC3339)
}
