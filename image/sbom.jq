# What cargo-cyclonedx wrote, with the crates that are linked and no others, and with what is in the image besides.

def lines: split("\n") | map(select(. != ""));

# What Debian's copyright files say; they are for people, and have no expression.
def licence: {"ca-certificates": "MPL-2.0 AND GPL-2.0-or-later", "libc6": "LGPL-2.1-or-later", "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1"}[.]
    // error("the image holds files of \(.), and its licence is not known here");

def expression: [{expression: .}];

# Debian's advisories are about source packages: scanners read their name from the qualifier (syft, grype) or from the properties (trivy).
def debian_package($at):
    split(" ") as [$name, $version, $architecture, $source, $source_version]
    | "pkg:deb/\($distribution)/\($name)@\($version | @uri)?arch=\($architecture)&distro=\($distribution)-\($release)&upstream=\($source)" as $purl
    | {type: "library", "bom-ref": $purl, purl: $purl, name: $name, version: $version, scope: "required", licenses: ($name | licence | expression),
       evidence: {occurrences: [$at[] | select(startswith($name + " ")) | {location: ltrimstr($name + " ")}]},
       properties: [{name: "aquasecurity:trivy:PkgType", value: $distribution}, {name: "aquasecurity:trivy:SrcName", value: $source},
                    {name: "aquasecurity:trivy:SrcVersion", value: $source_version}]};

# The standard library is in the binary, and is no crate of the lock file.
def standard_library:
    "pkg:generic/rust@\($rust)" as $purl
    | {type: "library", "bom-ref": $purl, purl: $purl, cpe: "cpe:2.3:a:rust-lang:rust:\($rust):*:*:*:*:*:*:*", name: "rust", version: $rust,
       description: "The standard library", scope: "required", licenses: ("MIT OR Apache-2.0" | expression)};

# The packages are this system's, whose advisories are about them; the system itself is not in the image.
def operating_system:
    {type: "operating-system", "bom-ref": "\($distribution)-\($release)", name: $distribution, version: $release,
     description: "Where the packages come from; nothing else of it is in the image"};

# Its manifest names the file and no licence; so does deny.toml, which checks the file.
def with_licence: if .name == "cloudevents-sdk" then .licenses = ("Apache-2.0" | expression) else . end;

($linked | lines) as $names
| ($files | lines) as $at
| .metadata.component["bom-ref"] as $root
| [.components[] | select("\(.name)@\(.version)" | IN($names[])) | with_licence] as $crates
| [standard_library, ($packages | lines[] | debian_package($at))] as $others
| [$root, $crates[]["bom-ref"]] as $kept
| del(.serialNumber, .metadata.timestamp, .metadata.component.components)
| .components = ($crates + $others + [operating_system] | sort_by(.["bom-ref"]))
| .dependencies = ([.dependencies[] | select(.ref | IN($kept[])) | .dependsOn = [.dependsOn[]? | select(IN($kept[]))]
        | if .ref == $root then .dependsOn += [$others[]["bom-ref"]] else . end]
    + [($others + [operating_system])[] | {ref: .["bom-ref"]}] | sort_by(.ref))
