"""SQLAlchemy over psycopg: ORM with relations and versions, Core with bulk inserts and upserts, isolation levels, async."""

import asyncio
import datetime
import decimal

from sqlalchemy import ForeignKey, Numeric, create_engine, event, exc, func, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    tags: Mapped[list[str]] = mapped_column(postgresql.ARRAY(postgresql.TEXT), default=list)
    facts: Mapped[dict] = mapped_column(postgresql.JSONB, default=dict)
    version: Mapped[int] = mapped_column()
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")
    __mapper_args__ = {"version_id_col": version}


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2))
    published: Mapped[datetime.date | None]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    author: Mapped[Author] = relationship(back_populates="books")


def orm(engine):
    Base.metadata.create_all(engine)
    print(sorted(inspect(engine).get_table_names()), [index["name"] for index in inspect(engine).get_indexes("books")])
    with Session(engine) as session:
        for n in range(10):
            session.add(Author(name=f"author {n}", tags=["a", str(n)], facts={"n": n}, books=[
                Book(title=f"book {n}.{m}", price=decimal.Decimal(m) + decimal.Decimal("0.95"), published=datetime.date(2026, 1, 1 + m)) for m in range(4)]))
        session.commit()
        authors = session.scalars(select(Author).options(selectinload(Author.books)).where(Author.facts["n"].as_integer() < 3).order_by(Author.id)).all()
        print([(author.name, author.tags, [str(book.price) for book in author.books]) for author in authors])
        authors[0].name = "renamed"
        authors[1].books.pop()
        session.delete(authors[2])
        session.flush()
        print(session.scalar(select(func.count()).select_from(Book)))
        with session.begin_nested():
            session.execute(update(Book).values(price=Book.price * 2))
        try:
            with session.begin_nested():
                session.add(Author(name="renamed"))
                session.flush()
        except exc.IntegrityError as error:
            print("refused", error.orig.sqlstate)
        session.commit()
    with Session(engine) as one, Session(engine) as two:
        a, b = one.get(Author, 1), two.get(Author, 1)
        a.tags = ["first"]
        b.tags = ["second"]
        one.commit()
        try:
            two.commit()
        except Exception as error:
            print("stale:", type(error).__name__)
    with Session(engine) as session:
        locked = session.scalars(select(Author).where(Author.id == 1).with_for_update()).one()
        print(locked.tags, locked.version)
        streamed = session.scalars(select(Book.id).order_by(Book.id).execution_options(yield_per=7))
        print(sum(streamed))


def core(engine):
    books = Book.__table__
    with engine.begin() as connection:
        result = connection.execute(insert(books).returning(books.c.id), [{"title": f"bulk {n}", "price": n, "author_id": 1} for n in range(2500)])
        print(len(result.all()))
        upsert = postgresql.insert(Author.__table__).values(id=1, name="upserted", tags=[], facts={}, version=1)
        connection.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"name": upsert.excluded.name}))
        print(connection.scalar(text("SELECT name FROM authors WHERE id = :id"), {"id": 1}))
        print(connection.execute(select(books.c.author_id, func.sum(books.c.price)).group_by(books.c.author_id).order_by(books.c.author_id)).all())
    with engine.connect() as connection:
        with connection.execution_options(stream_results=True, max_row_buffer=50).execute(select(books.c.id).order_by(books.c.id)) as result:
            print([len(part) for part in result.partitions(1000)])
    with engine.connect() as connection:
        two_phase = connection.begin_twophase("sqlalchemy")
        connection.execute(books.delete().where(books.c.title == "bulk 7"))
        two_phase.prepare()
        two_phase.commit()
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            print(level, connection.scalar(text("SHOW transaction_isolation")), connection.scalar(select(func.count()).select_from(books)))
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT * FROM absent"))
    except exc.ProgrammingError as error:
        print("error:", error.orig.sqlstate, error.orig.diag.statement_position)


def retried(engine):
    """The retry on 40001 that applications write."""
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")
    for attempt in range(3):
        try:
            with Session(serializable) as session:
                session.execute(select(func.sum(Book.price)).where(Book.author_id == 4)).scalar()
                if attempt == 0:
                    with Session(serializable) as other:
                        other.execute(select(func.sum(Book.price)).where(Book.author_id == 5)).scalar()
                        other.execute(update(Book).where(Book.author_id == 4).values(price=Book.price + 1))
                        session.execute(update(Book).where(Book.author_id == 5).values(price=Book.price + 1))
                        other.commit()
                else:
                    session.execute(update(Book).where(Book.author_id == 5).values(price=Book.price + 1))
                session.commit()
                print("done at attempt", attempt)
                return
        except exc.OperationalError as error:
            print("retry", error.orig.sqlstate)


async def asynchronous():
    engine = create_async_engine("postgresql+psycopg://", pool_size=3)
    async with AsyncSession(engine) as session:
        print((await session.execute(select(func.count()).select_from(Book))).scalar_one())
        rows = await session.stream(select(Book.id).order_by(Book.id).limit(10))
        print([row.id async for row in rows])
    await engine.dispose()
    engine = create_async_engine("postgresql+asyncpg://", pool_size=3)

    async def one(n):
        async with AsyncSession(engine) as session:
            return (await session.execute(select(Author.name).where(Author.id == n))).scalar()
    print(await asyncio.gather(*(one(n) for n in range(1, 8))))
    await engine.dispose()


engine = create_engine("postgresql+psycopg://", pool_size=4)
seen = []
event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
orm(engine)
core(engine)
retried(engine)
engine.dispose()
asyncio.run(asynchronous())
old = create_engine("postgresql+psycopg2://")
with old.connect() as connection:
    print(connection.execute(select(Author.name).order_by(Author.id)).scalars().all())
old.dispose()
print("statements", len(seen))
