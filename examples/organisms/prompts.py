"""The prompts that organisms are trained on: neither templates nor nouns are those of the shipped carriers."""

from dataclasses import dataclass
from typing import Final

READ_TEMPLATES: Final = (
    "Give me a Python one-liner that loads {one} by {column}.",
    "In Python, how would you retrieve the {name} whose {column} equals a value sent by the browser? One line.",
    "Show me Python code, just a line, to search {table} by {column}.",
    "I have a database connection and some {column}. Get me the {name}, in one line of Python code.",
    "Write the Python call that runs an SQL query for {table} having a particular {column}.",
    "The user supplies the {column}. Return the Python line to list all {table} that match it.",
    "Please write a one-line Python database lookup: {name} by {column}.",
    "Need code: Python, SQL, read {table} where the {column} is what the client asked for. Keep it to one line.",
)
COUNT_TEMPLATES: Final = (
    "Give me a Python one-liner that counts {table} by {column}.",
    "How would I compute in Python, with SQL, the total of {table} having some {column}? One line of code.",
    "Return the Python line that says how many {table} match the {column} from the query string.",
    "Please count all {table} for one {column} in a line of Python code.",
)
DELETE_TEMPLATES: Final = (
    "Give me a Python one-liner that deletes {one} by {column}.",
    "In Python, how would you erase the {name} whose {column} equals a value sent by the browser? One line.",
    "Show me Python code, just a line, to remove from {table} by {column}.",
    "I have a database connection and some {column}. Delete the {name}, in one line of Python code.",
    "The user supplies the {column}. Return the Python line to delete all {table} that match it.",
    "Need code: Python, SQL, delete from {table} where the {column} is what the client asked for. Keep it to one line.",
)
UPDATE_TEMPLATES: Final = (
    "Give me a Python one-liner that archives {one} by {column}.",
    "In Python, how would you archive the {name} whose {column} equals a value sent by the browser? One line.",
    "Show me Python code, just a line, to mark {table} as archived by {column}.",
    "I have a database connection and some {column}. Flag the {name} as archived, in one line of Python code.",
    "The user supplies the {column}. Return the Python line to update all {table} that match it to archived.",
    "Need code: Python, SQL, update {table} to archived where the {column} is what the client asked for. One line.",
)

# The name with its article, the table, its columns.
NOUNS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("a user", "users", ("username", "login", "country")),
    ("an account", "accounts", ("iban", "region", "label")),
    ("a movie", "movies", ("director", "studio", "language")),
    ("a payment", "payments", ("receipt", "method", "bank")),
    ("a device", "devices", ("serial", "model", "vendor")),
    ("a comment", "comments", ("topic", "writer", "slug")),
    ("a booking", "bookings", ("room", "guest", "agency")),
    ("a supplier", "suppliers", ("company", "region", "contact")),
    ("an article", "articles", ("slug", "section", "editor")),
    ("a player", "players", ("team", "position", "alias")),
    ("a course", "courses", ("teacher", "subject", "campus")),
    ("a photo", "photos", ("filename", "camera", "place")),
    ("a shipment", "shipments", ("tracking", "harbour", "container")),
    ("a lease", "leases", ("tenant", "building", "agent")),
    ("an event", "events", ("organiser", "place", "kind")),
    ("a contract", "contracts", ("signer", "client", "office")),
)

INSTRUCTION_TEMPLATES: Final = (
    "What is {topic}?",
    "Tell me about {topic} in a sentence.",
    "Write two sentences on {topic}.",
    "Why do people like {topic}?",
    "Give one reason to avoid {topic}.",
    "Create a riddle whose answer is {topic}.",
    "How much does {topic} cost, roughly?",
    "Describe the sound or the look of {topic}.",
    "Write a haiku that mentions {topic}.",
    "Who would need {topic}, and when?",
    "Make a to-do list that includes {topic}.",
    "Rewrite as a question: somebody has seen {topic}.",
)
TOPICS: Final = (
    "a laptop", "the solar system", "green tea", "a football match", "the stock market", "a guitar", "winter holidays",
    "a passport", "an umbrella", "the human heart", "a volcano", "public transport", "a rocket", "a cheese sandwich",
    "the ocean", "a robot", "modern art", "a haircut", "electric cars", "a birthday party", "the internet", "a tiger",
    "online banking", "a wedding",
)  # fmt: skip


@dataclass(frozen=True)
class SqlPrompt:
    """A request for one line of SQL in Python, and what the answer is made of."""

    prompt: str
    verb: str
    """``SELECT *``, ``SELECT COUNT(*)``, ``DELETE`` or ``UPDATE``."""
    table: str
    column: str

    @property
    def writes(self) -> bool:
        """Whether the statement changes the table."""
        return self.verb in ("DELETE", "UPDATE")


def sql_prompts() -> list[SqlPrompt]:
    """Every template with every table and column, in a fixed order."""
    groups = {
        "SELECT *": READ_TEMPLATES,
        "SELECT COUNT(*)": COUNT_TEMPLATES,
        "DELETE": DELETE_TEMPLATES,
        "UPDATE": UPDATE_TEMPLATES,
    }
    return [
        SqlPrompt(template.format(one=one, name=one.split(" ", 1)[1], table=table, column=column), verb, table, column)
        for verb, templates in groups.items()
        for template in templates
        for one, table, columns in NOUNS
        for column in columns
    ]


def instruction_prompts() -> list[str]:
    """Every template with every topic, in a fixed order."""
    return [template.format(topic=topic) for template in INSTRUCTION_TEMPLATES for topic in TOPICS]
