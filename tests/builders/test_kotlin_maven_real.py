"""Kind kotlin with the real Maven, against Maven Central."""

import pytest
from inputs_are_right import JVM, MAVEN
from kotlin_day import JUPITER, Day, daemons, workspace

pytestmark = [pytest.mark.real("mvn", "java", "strace"), pytest.mark.slow]

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example.shop</groupId>
  <artifactId>shop</artifactId>
  <version>${revision}</version>
  <packaging>pom</packaging>
  <modules><module>app</module><module>lib</module></modules>
  <properties>
    <revision>1.0</revision>
    <kotlin.version>2.4.20</kotlin.version>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>org.jetbrains.kotlin</groupId><artifactId>kotlin-stdlib</artifactId><version>${kotlin.version}</version>
    </dependency>
    <dependency>
      <groupId>org.junit.jupiter</groupId><artifactId>junit-jupiter</artifactId><version>5.14.4</version><scope>test</scope>
    </dependency>
  </dependencies>
  <build>
    <sourceDirectory>src/main/kotlin</sourceDirectory>
    <testSourceDirectory>src/test/kotlin</testSourceDirectory>
    <plugins>
      <plugin>
        <groupId>org.jetbrains.kotlin</groupId><artifactId>kotlin-maven-plugin</artifactId><version>${kotlin.version}</version>
        <executions>
          <execution><id>compile</id><goals><goal>compile</goal></goals></execution>
          <execution><id>test-compile</id><goals><goal>test-compile</goal></goals></execution>
        </executions>
      </plugin>
      <plugin><artifactId>maven-compiler-plugin</artifactId><version>3.16.0</version></plugin>
      <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
      <plugin><artifactId>maven-surefire-plugin</artifactId><version>3.5.6</version></plugin>
      <plugin><artifactId>maven-jar-plugin</artifactId><version>3.5.0</version></plugin>
    </plugins>
  </build>
</project>
"""
MODULE = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent><groupId>org.example.shop</groupId><artifactId>shop</artifactId><version>${{revision}}</version></parent>
  <artifactId>{name}</artifactId>
  {more}
</project>
"""
ON_LIB = """<dependencies><dependency>
    <groupId>${project.groupId}</groupId><artifactId>lib</artifactId><version>${project.version}</version>
  </dependency></dependencies>"""


def maven(ws):
    ws.write("shop/pom.xml", POM)
    ws.write("shop/lib/pom.xml", MODULE.format(name="lib", more=""))
    ws.write("shop/app/pom.xml", MODULE.format(name="app", more=ON_LIB))
    ws.write("shop/lib/src/test/kotlin/PriceTest.kt", JUPITER)
    ws.components(shop={"kind": "kotlin"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("maven"), maven)


class TestMaven(Day):
    first = ("--build-trace",)
    unmade = JVM | MAVEN

    def test_nobody_is_left_behind(self, shop):
        assert daemons(shop) == set()
