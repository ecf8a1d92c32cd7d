"""Repositories as one meets them, each with the build file that somebody would write for it: path → text.

A ferry line's Compose application of six services in four languages; weather stations whose schemas come first; a web
shop of thirty packages. No build file says which step needs which.
"""

import json

PROJECT = '[project]\nname = "{name}"\nversion = "1.0"\ndescription = "{name}"\nrequires-python = ">=3.10"\n{more}'
FLIT = '\n[build-system]\nrequires = ["flit_core>=3.12"]\nbuild-backend = "flit_core.buildapi"\n'


def ferry(tag):
    """`tag`: of the six images."""
    return {
        "build.yml": FERRY,
        ".env": f"TAG={tag}\n",
        "compose.yaml": "services:\n" + "".join(map(_service, ("gateway", "seats", "fares", "bookings", "notices", "board"))),
        ".gitignore": "bin/\ndist/\nsdist/\ntarget/\n.venv*\nnode_modules/\n",
        "README.md": "# Ferry\n\n`docker compose up`\n",
        **_go("gateway", 'println("to the quay, ", knots.Kmh(20), " km/h")'),
        **_go("seats", "println(knots.Kmh(0))"),
        "libs/knots/go.mod": "module ferry.example/knots\n\ngo 1.19\n",
        "libs/knots/knots.go": "package knots\n\nfunc Kmh(knots int) int { return knots * 1852 / 1000 }\n",
        "services/fares/Cargo.toml": '[package]\nname = "fares"\nversion = "0.1.0"\nedition = "2021"\n',
        "services/fares/Cargo.lock": 'version = 3\n\n[[package]]\nname = "fares"\nversion = "0.1.0"\n',
        "services/fares/src/main.rs": 'mod zone;\n\nfn main() {\n    println!("{}", zone::cents(3));\n}\n',
        "services/fares/src/zone.rs": "pub fn cents(zones: u32) -> u32 {\n    120 + 80 * zones\n}\n",
        "services/fares/Dockerfile": "FROM scratch\nCOPY bin/fares /fares\nENTRYPOINT [\"/fares\"]\n",
        **_python("services/bookings", "bookings", "from tides import high\n\nSAILS_AT = high(7)\n", ["tides"]),
        **_python("services/notices", "notices", "from tides import high\n\nTEXT = f'at {high(9)}'\n", ["tides"]),
        **_python("libs/tides", "tides", "def high(day):\n    return (day * 50) % 720\n", []),
        "services/bookings/Dockerfile": "FROM scratch\nCOPY dist/ /wheels/\n",
        "services/notices/Dockerfile": "FROM scratch\nCOPY dist/ /wheels/\n",
        "services/board/package.json": json.dumps(
            {"name": "board", "version": "1.0.0", "private": True, "type": "module", "scripts": {"build": "node build.js"}}
        ),
        "services/board/package-lock.json": json.dumps(
            {"name": "board", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "board", "version": "1.0.0"}}}
        ),
        "services/board/build.js": (
            "import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'\n"
            "mkdirSync('dist', { recursive: true })\n"
            "writeFileSync('dist/index.html', `<h1>${readFileSync('src/title.txt', 'utf8').trim()}</h1>`)\n"
        ),
        "services/board/src/title.txt": "Departures\n",
        "services/board/Dockerfile": "FROM scratch\nCOPY dist /srv\n",
    }  # fmt: skip


FERRY = """\
version: "2.0"
components:
  libs: {kind: auto, path: libs/*}
  go: {kind: go, path: services/*, tags: [backend]}
  python: {kind: python, path: services/*, tags: [backend]}
  rust: {kind: rust, path: services/*, tags: [backend]}
  web: {kind: typescript, path: services/*, tags: [frontend]}
  app: {kind: docker, path: //, compose: compose.yaml, tags: [images]}
targets:
  images: {description: All that Compose starts, tags: [images]}
default_target: images
"""


def _service(name):
    return f"  {name}:\n    image: ferry-test/{name}:${{TAG}}\n    build: ./services/{name}\n"


def _go(name, body):
    return {
        f"services/{name}/go.mod": (
            f"module ferry.example/{name}\n\ngo 1.19\n\nrequire ferry.example/knots v0.0.0\n\n"
            "replace ferry.example/knots => ../../libs/knots\n"
        ),
        f"services/{name}/main.go": f'package main\n\nimport "ferry.example/knots"\n\nfunc main() {{ {body} }}\n',
        f"services/{name}/Dockerfile": f'FROM scratch\nCOPY bin/{name} /{name}\nENTRYPOINT ["/{name}"]\n',
    }


def _python(folder, name, code, needs):
    more = f"dependencies = {json.dumps([f'{need} @ file:../../libs/{need}' for need in needs])}\n" if needs else ""
    return {f"{folder}/pyproject.toml": PROJECT.format(name=name, more=more) + FLIT, f"{folder}/src/{name}/__init__.py": f'"""{name}"""\n\n{code}'}


def stations(java_runtime="4.31.1"):
    """Weather stations: five schemas, five languages, and those who speak them.

    `java_runtime`: the release of protobuf-java that goes with protoc.
    """
    return {
        "build.yml": STATIONS,
        ".gitignore": "gen/\ndist/\nsdist/\n.venv*\nnode_modules/\nbin/\ntarget/\n",
        **_schema("unit", "message Celsius { sint32 tenths = 1; }", "message Knots { uint32 whole = 1; }"),
        **_schema("place", "message Place { double north = 1; double east = 2; string name = 3; }"),
        **_schema("station", "message Station { string id = 1; weather.place.v1.Place place = 2; }", needs=["place"]),
        **_schema(
            "reading",
            "message Reading { string station = 1; weather.unit.v1.Celsius air = 2; weather.unit.v1.Knots wind = 3; }",
            needs=["unit"],
        ),
        **_schema(
            "report",
            "message Report { weather.station.v1.Station of = 1; repeated weather.reading.v1.Reading last = 2; }",
            needs=["reading", "station"],
        ),
        **_python("clients/python", "weather", "UNITS = ('celsius', 'knots')\n", []),
        "services/ingest/go.mod": "module weather.example\n\ngo 1.19\n\nrequire google.golang.org/protobuf v1.31.0\n",
        "services/ingest/go.sum": GO_SUM,
        "services/ingest/main.go": INGEST,
        "services/almanac/pom.xml": ALMANAC.format(runtime=java_runtime),
        "services/almanac/src/main/java/almanac/Almanac.java": (
            "package almanac;\n\nimport example.weather.report.ReportOuterClass.Report;\n\n"
            "public class Almanac {\n"
            "    public static void main(String[] args) {\n"
            "        System.out.println(Report.getDescriptor().getFullName());\n    }\n}\n"
        ),
        "web/package.json": json.dumps(MAP | {"scripts": {"build": "tsc"}}),
        "web/package-lock.json": json.dumps({**NAMED, "lockfileVersion": 3, "requires": True, "packages": {"": MAP, **INSTALLED}}),
        "web/tsconfig.json": json.dumps({"compilerOptions": {"module": "nodenext", "target": "es2022", "strict": True, "rootDir": "src", "outDir": "dist"}}),
        "web/src/map.ts": "import { ReportSchema } from './gen/weather/report/v1/report_pb.js'\n\nconsole.log(ReportSchema.typeName)\n",
    }  # fmt: skip


STATIONS = """\
version: "2.0"
components:
  schemas:
    kind: protobuf
    languages:
      python: //clients/python/src/weather/api
      go: //services/ingest/gen
      java: //services/almanac/gen
      typescript: {out: //web/src/gen, options: [target=ts, import_extension=js]}
      cpp: //edge/gen
  python: {kind: python, path: clients/python}
  services: {kind: auto, path: services/*}
  web: {kind: typescript}
  edge:
    kind: command
    steps:
      headers:
        command: "tar -cf headers.tar --sort=name --mtime=@0 --owner=0 --group=0 gen"
        inputs: [gen/]
        outputs: [headers.tar]
"""
INGEST = """\
package main

import (
	"fmt"

	report "weather.example/gen/weather/report/v1"
)

func main() { fmt.Println((&report.Report{}).ProtoReflect().Descriptor().FullName()) }
"""
GO_SUM = """\
github.com/golang/protobuf v1.5.0/go.mod h1:FsONVRAS9T7sI+LIUmWTfcYkHO4aIWwzhcaSAoJOfIk=
github.com/google/go-cmp v0.5.5/go.mod h1:v8dTdLbMG2kIc/vJvl+f65V22dbkXbowE6jgT/gNBxE=
golang.org/x/xerrors v0.0.0-20191204190536-9bdfabe68543/go.mod h1:I/5z698sn9Ka8TeJc9MKroUUfqBBauWjQqLJ2OPfmY0=
google.golang.org/protobuf v1.26.0-rc.1/go.mod h1:jlhhOSvTdKEhbULTjvd4ARK9grFBp09yW+WbY/TyQbw=
google.golang.org/protobuf v1.31.0 h1:g0LDEJHgrBl9N9r17Ru3sqWhkIx2NB67okBHPwC7hs8=
google.golang.org/protobuf v1.31.0/go.mod h1:HV8QOd/L58Z+nl8r43ehVNZIU/HEI6OcFqwMG9pJV4I=
"""
ALMANAC = """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>weather</groupId><artifactId>almanac</artifactId><version>1</version>
<properties><maven.compiler.release>17</maven.compiler.release><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
<dependencies>
  <dependency><groupId>com.google.protobuf</groupId><artifactId>protobuf-java</artifactId><version>{runtime}</version></dependency>
</dependencies>
<build><plugins>
  <plugin><groupId>org.codehaus.mojo</groupId><artifactId>build-helper-maven-plugin</artifactId><version>3.6.0</version>
    <executions><execution><id>generated</id><phase>generate-sources</phase><goals><goal>add-source</goal></goals>
      <configuration><sources><source>gen</source></sources></configuration></execution></executions></plugin>
  <plugin><artifactId>maven-compiler-plugin</artifactId><version>3.16.0</version></plugin>
  <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
  <plugin><artifactId>maven-surefire-plugin</artifactId><version>3.5.6</version></plugin>
  <plugin><artifactId>maven-jar-plugin</artifactId><version>3.5.0</version></plugin>
</plugins></build></project>
"""
NAMED = {"name": "map", "version": "1.0.0"}
MAP = {
    **NAMED, "private": True, "type": "module",
    "dependencies": {"@bufbuild/protobuf": "2.13.0"}, "devDependencies": {"typescript": "5.9.3"},
}  # fmt: skip
INSTALLED = {
    "node_modules/@bufbuild/protobuf": {
        "version": "2.13.0",
        "integrity": "sha512-acq7c49vxfm1ggJ95P70TX7ABDM0vxr1SYD3BB0o0jnBLB4OAqeHyKuN+cD3w80gXEDQ2zxHpR6CUeA+O/aU9g==",
    },
    "node_modules/typescript": {
        "version": "5.9.3",
        "integrity": "sha512-jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==",
        "dev": True,
        "bin": {"tsc": "bin/tsc", "tsserver": "bin/tsserver"},
    },
}


def _schema(name, *messages, needs=()):
    lines = [
        'syntax = "proto3";',
        f"package weather.{name}.v1;",
        f'option go_package = "weather.example/gen/weather/{name}/v1;{name}";',
        f'option java_package = "example.weather.{name}";',
        *(f'import "weather/{need}/v1/{need}.proto";' for need in needs),
        *messages,
    ]
    return {f"schemas/weather/{name}/v1/{name}.proto": "\n".join(lines) + "\n"}


APPS = ("shop", "admin", "kiosk", "docs")
FEATURES = ("cart", "search", "checkout", "account", "reviews", "stock", "gifts", "returns")
PARTS = ("button", "card", "dialog", "field", "grid", "icon", "list", "menu", "table", "tabs", "toast", "tooltip")
TOOLS = ("tokens", "compile", "format", "dates", "money", "http")


def shop():
    """Thirty packages of npm's workspaces: four apps on eight features, these on twelve parts, all on six tools."""
    packages = {f"tooling/{name}": ["tokens"] if name == "format" else [] for name in TOOLS}
    packages |= {f"parts/{name}": ["tokens", *(["icon"] if name in ("button", "menu", "toast") else [])] for name in PARTS}
    packages |= {f"features/{name}": [*PARTS[i : i + 3], "http", "money"] for i, name in enumerate(FEATURES)}
    packages |= {f"apps/{name}": [*FEATURES[i * 2 : i * 2 + 2], "dates"] for i, name in enumerate(APPS)}
    files, lock = {"build.yml": SHOP, "scripts/compile.mjs": COMPILE, ".gitignore": "node_modules/\ndist/\nreports/\n"}, {}
    root = {"name": "shop", "private": True, "workspaces": ["apps/*", "features/*", "parts/*", "tooling/*"]}
    for path, needs in packages.items():
        name = path.partition("/")[2]
        manifest = {
            "name": f"@shop/{name}", "version": "1.0.0", "main": "dist/index.js", "type": "module",
            "dependencies": {f"@shop/{need}": "1.0.0" for need in needs},
        }  # fmt: skip
        files[f"{path}/package.json"] = json.dumps(manifest | {"scripts": {"build": "node ../../scripts/compile.mjs"}})
        files[f"{path}/src/index.js"] = "".join(f"import {{ names as {need} }} from '@shop/{need}'\n" for need in needs) + (
            f"export const names = ['{name}', {', '.join(f'...{need}' for need in needs)}]\n"
        )
        lock |= {path: manifest, f"node_modules/@shop/{name}": {"resolved": path, "link": True}}
    files["package.json"] = json.dumps(root)
    files["package-lock.json"] = json.dumps({"name": "shop", "lockfileVersion": 3, "requires": True, "packages": {"": root, **lock}})
    return files


SHOP = """\
version: "2.0"
components:
  web:
    kind: typescript
    path: //
    steps:
      "shop.build": {tags: [deployed]}
"""
COMPILE = """\
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'

mkdirSync('dist', { recursive: true })
writeFileSync('dist/index.js', readFileSync('src/index.js'))
const { names } = await import(`${process.cwd()}/dist/index.js`)
writeFileSync('dist/names.txt', [...new Set(names)].sort().join(' '))
"""
