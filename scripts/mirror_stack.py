"""The mirror's stack in a local AWS, and the comparison of its table with a fake SuperOffice, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from processes import StackError
from sam_stack import ARCHITECTURE, SamStack

# The tenant of the fake SuperOffice.
TENANT = "Cust12345"


class AuditFailed(StackError):
    """An audit did not complete."""


@dataclass
class Mirror:
    """A stack of mirror/template.yaml."""

    stack: SamStack
    superoffice: FakeSuperOffice
    entities: tuple[str, ...] = ("contact",)

    def deploy(self, queue_arn: str, **parameters: str) -> Mirror:
        self.stack.deploy(
            Architecture=ARCHITECTURE,
            QueueArn=queue_arn,
            SuperOfficeUrl=self.superoffice.url,
            User=USER,
            Password=PASSWORD,
            AuditReadsPerSecond="100",
            SyncEntities=",".join(self.entities),
            **parameters,
        )
        return self

    def rows(self, entity: str = "contact") -> dict[int, dict[str, Any]]:
        """Returns the rows of the tenant's contacts or persons, by their ids."""
        pages = self.stack.aws.client("dynamodb").get_paginator("query")
        arguments = {
            "TableName": self.stack.outputs["TableName"],
            "KeyConditionExpression": "entity = :entity",
            "ExpressionAttributeValues": {":entity": {"S": f"{TENANT}/{entity}"}},
        }
        read = TypeDeserializer().deserialize
        items = [item for page in pages.paginate(**arguments) for item in page["Items"]]
        rows = [{name: plain(read(value)) for name, value in item.items()} for item in items]
        return {row["id"]: row for row in rows}

    def differences(self) -> list[str]:
        """Compares the table with SuperOffice. Returns a line for each contact or person that differs."""
        found = []
        for entity in self.entities:
            rows = {key: json.loads(row["data"]) for key, row in self.rows(entity).items() if not row.get("deleted")}
            found += differences(entity, rows, self.superoffice.documents(entity))
        return found

    def audit(self, is_due: bool = False) -> dict:
        """Lets the audit of each entity run to its end, and begins it unless it is due. Returns the sums of metrics."""
        lambda_, function = self.stack.aws.client("lambda"), self.stack.outputs["FunctionName"]
        before = len(self.stack.log_lines())
        for payload in [{} if is_due else {"audit": TENANT}, *[{}] * 9]:
            response = lambda_.invoke(FunctionName=function, Payload=json.dumps(payload))
            if response.get("FunctionError"):
                raise AuditFailed(f"the mirror failed: {response['Payload'].read().decode()}")
            lines = self.stack.log_lines()[before:]
            sums = {name: sum(line.get(name, 0) for line in lines) for name in METRICS}
            if sums["AuditCompleted"] == len(self.entities):
                return sums
            if sums["AuditFailed"]:
                raise AuditFailed(f"the audit failed: {lines}")
        raise AuditFailed("the audit does not complete")


METRICS = ("AuditCompleted", "AuditDifferences", "AuditFailed", "Written", "Removed", "Unchanged")


def plain(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


def differences(entity: str, rows: dict[int, dict], documents: dict[int, dict]) -> Iterator[str]:
    """Returns a line for each row that differs from SuperOffice's document, a contact's `Persons` aside."""
    for key in sorted(rows.keys() | documents.keys()):
        row, document = rows.get(key), documents.get(key)
        if document is None:
            yield f"{entity} {key} is in the table, and not in SuperOffice"
        elif row is None:
            yield f"{entity} {key} is in SuperOffice, and not in the table"
        else:
            expected = {name: value for name, value in document.items() if name != "Persons"}
            names = sorted(name for name in row.keys() | expected.keys() if row.get(name) != expected.get(name))
            if names:
                yield f"{entity} {key}: {', '.join(names)}"
