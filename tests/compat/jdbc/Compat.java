import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** The JDBC driver: one part of it for each name on the command line. */
public final class Compat {
    interface Action {
        void run() throws Exception;
    }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        for (int at = 0; at < options.length; at += 2) {
            properties.setProperty(options[at], options[at + 1]);
        }
        return DriverManager.getConnection(
            "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }

    static void failing(String title, Action action) throws Exception {
        try {
            action.run();
            System.out.println(title + ": no error");
        } catch (BatchUpdateException error) {
            System.out.println(title + ": " + error.getSQLState() + " " + Arrays.toString(error.getUpdateCounts()) + " " + error.getNextException().getMessage());
        } catch (SQLException error) {
            System.out.println(title + ": " + error.getSQLState() + " " + error.getMessage());
        }
    }

    static void rows(String title, ResultSet results) throws SQLException {
        ResultSetMetaData columns = results.getMetaData();
        System.out.print(title + ":");
        for (int column = 1; column <= columns.getColumnCount(); column++) {
            System.out.print(" " + columns.getColumnName(column) + ":" + columns.getColumnTypeName(column));
        }
        System.out.println();
        while (results.next()) {
            StringBuilder line = new StringBuilder("  ");
            for (int column = 1; column <= columns.getColumnCount(); column++) {
                line.append(results.getString(column)).append(" | ");
            }
            System.out.println(line);
        }
        results.close();
    }

    static void queries() throws Exception {
        for (String mode : new String[] {"extended", "extendedForPrepared", "extendedCacheEverything", "simple"}) {
            System.out.println("== preferQueryMode " + mode);
            try (Connection connection = connect("preferQueryMode", mode); Statement statement = connection.createStatement()) {
                rows("kinds", statement.executeQuery("SELECT id, flag, small, large, exact, single, double, words, fixed, raw, day, clock, moment, token, doc, list, feeling, net FROM kinds ORDER BY id"));
                // the driver sends no bytes or arrays in simple mode
                failing("parameters", () -> {
                    try (PreparedStatement prepared = connection.prepareStatement("SELECT CAST(? AS int), CAST(? AS text), CAST(? AS numeric), CAST(? AS date), CAST(? AS bytea), CAST(? AS int[])")) {
                        prepared.setInt(1, 7);
                        prepared.setString(2, "☃ 'quoted'");
                        prepared.setBigDecimal(3, new java.math.BigDecimal("12.340"));
                        prepared.setDate(4, Date.valueOf("2026-02-28"));
                        prepared.setBytes(5, new byte[] {0, (byte) 255});
                        prepared.setArray(6, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                        rows("parameters", prepared.executeQuery());
                    }
                });
                boolean more = statement.execute("SELECT 1; UPDATE customers SET name = name WHERE id < 4; SELECT 2");
                while (more || statement.getUpdateCount() != -1) {
                    if (more) {
                        rows("several", statement.getResultSet());
                    } else {
                        System.out.println("updated " + statement.getUpdateCount());
                    }
                    more = statement.getMoreResults();
                }
                failing("syntax", () -> statement.execute("SELEC 1"));
                failing("unique", () -> statement.execute("INSERT INTO customers (name, email) VALUES ('x', 'c1@example.com')"));
                failing("division", () -> statement.executeQuery("SELECT 1 / 0"));
                statement.execute("SELECT chatter(5)");
                for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
                    System.out.println("warning: " + warning.getSQLState() + " " + warning.getMessage());
                }
                statement.executeUpdate("INSERT INTO customers (name) VALUES ('" + mode + "')", Statement.RETURN_GENERATED_KEYS);
                rows("generated", statement.getGeneratedKeys());
                failing("call", () -> {
                    try (CallableStatement call = connection.prepareCall("{? = call chatter(?)}")) {
                        call.registerOutParameter(1, Types.INTEGER);
                        call.setInt(2, 21);
                        call.execute();
                        System.out.println("called " + call.getInt(1));
                    }
                });
            }
        }
        try (Connection connection = connect()) {
            DatabaseMetaData data = connection.getMetaData();
            rows("tables", data.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}));
            rows("keys", data.getPrimaryKeys(null, "public", "orders"));
            rows("imported", data.getImportedKeys(null, "public", "orders"));
            rows("columns", data.getColumns(null, "public", "customers", "%"));
        }
        failing("wrong password", () -> connect("password", "wrong").close());
        failing("TLS", () -> connect("sslmode", "require").close());
    }

    static void prepared() throws Exception {
        try (Connection connection = connect("prepareThreshold", "3")) {
            try (PreparedStatement prepared = connection.prepareStatement("SELECT id, exact, list FROM kinds WHERE id >= ? ORDER BY id")) {
                for (int n = 1; n <= 6; n++) {
                    prepared.setInt(1, 2);
                    rows(n + " server " + prepared.unwrap(PGStatement.class).isUseServerPrepare(), prepared.executeQuery());
                }
                try (Statement statement = connection.createStatement()) {
                    rows("on the server", statement.executeQuery("SELECT name, statement FROM pg_prepared_statements"));
                    statement.execute("DEALLOCATE ALL");
                }
                failing("after DEALLOCATE ALL", () -> rows("again", prepared.executeQuery()));
                failing("and again", () -> rows("again", prepared.executeQuery()));
            }
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE changing (a int)");
                statement.execute("INSERT INTO changing VALUES (1)");
            }
            try (PreparedStatement prepared = connection.prepareStatement("SELECT * FROM changing")) {
                for (int n = 0; n < 5; n++) {
                    prepared.executeQuery().close();
                }
                try (Statement statement = connection.createStatement()) {
                    statement.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 3");
                }
                failing("changed result", () -> rows("changed", prepared.executeQuery()));
            }
        }
        try (Connection connection = connect("prepareThreshold", "1", "preparedStatementCacheQueries", "5", "autosave", "always")) {
            connection.setAutoCommit(false);
            for (int n = 0; n < 40; n++) {
                try (PreparedStatement prepared = connection.prepareStatement("SELECT ?::int + " + n % 9)) {
                    prepared.setInt(1, n);
                    try (ResultSet results = prepared.executeQuery()) {
                        results.next();
                        System.out.print(results.getInt(1) + " ");
                    }
                }
            }
            System.out.println();
            failing("in a block with autosave", () -> connection.createStatement().execute("SELECT 1 / 0"));
            rows("goes on", connection.createStatement().executeQuery("SELECT 'the block lives'"));
            connection.commit();
        }
    }

    static void batches() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            try (Connection connection = connect("reWriteBatchedInserts", rewrite)) {
                try (PreparedStatement prepared = connection.prepareStatement("INSERT INTO journal VALUES (?, ?)")) {
                    for (int n = 0; n < 700; n++) {
                        prepared.setInt(1, n);
                        prepared.setString(2, "batch " + rewrite);
                        prepared.addBatch();
                    }
                    int[] counts = prepared.executeBatch();
                    System.out.println(counts.length + " " + counts[0]);
                }
                try (PreparedStatement prepared = connection.prepareStatement("INSERT INTO customers (name, email) VALUES (?, ?)", new String[] {"id"})) {
                    for (int n = 0; n < 5; n++) {
                        prepared.setString(1, "batch");
                        prepared.setString(2, "batch" + rewrite + n + "@example.com");
                        prepared.addBatch();
                    }
                    prepared.executeBatch();
                    ResultSet keys = prepared.getGeneratedKeys();
                    int many = 0;
                    while (keys.next()) {
                        many++;
                    }
                    System.out.println("keys " + many);
                    for (int n = 3; n < 8; n++) {
                        prepared.setString(1, "batch");
                        prepared.setString(2, "batch" + rewrite + (n == 5 ? 0 : n + 10) + "@example.com");
                        prepared.addBatch();
                    }
                    failing("a batch with a twin", prepared::executeBatch);
                }
                try (Statement statement = connection.createStatement()) {
                    statement.addBatch("INSERT INTO journal VALUES (1, 'mixed')");
                    statement.addBatch("UPDATE journal SET note = 'mixed too' WHERE note = 'mixed'");
                    statement.addBatch("DELETE FROM journal WHERE note = 'mixed too'");
                    System.out.println(Arrays.toString(statement.executeBatch()));
                    rows("journal", statement.executeQuery("SELECT note, count(*) FROM journal WHERE note LIKE 'batch%' OR note LIKE 'mixed%' GROUP BY 1 ORDER BY 1"));
                    rows("customers", statement.executeQuery("SELECT count(*) FROM customers WHERE name = 'batch'"));
                }
            }
        }
    }

    static void portals() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement prepared = connection.prepareStatement("SELECT id, total FROM orders ORDER BY id")) {
                prepared.setFetchSize(7);
                long sum = 0;
                try (ResultSet results = prepared.executeQuery()) {
                    while (results.next()) {
                        sum += results.getLong(1);
                    }
                }
                System.out.println(sum);
                prepared.setMaxRows(20);
                try (ResultSet results = prepared.executeQuery(); Statement between = connection.createStatement()) {
                    int many = 0;
                    while (results.next()) {
                        many++;
                        if (many % 6 == 0) {
                            rows("between", between.executeQuery("SELECT " + many));
                        }
                    }
                    System.out.println(many);
                }
            }
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet results = statement.executeQuery("SELECT id, name, email, balance FROM customers WHERE id <= 5 ORDER BY id");
                results.absolute(3);
                results.updateString("name", "updated in place");
                results.updateRow();
                results.last();
                results.deleteRow();
                results.close();
            }
            failing("an error while fetching", () -> {
                try (Statement statement = connection.createStatement()) {
                    statement.setFetchSize(2);
                    ResultSet results = statement.executeQuery("SELECT 10 / (5 - n) FROM generate_series(1, 9) n");
                    while (results.next()) {
                        System.out.print(results.getInt(1) + " ");
                    }
                }
            });
            connection.rollback();
            rows("rolled back", connection.createStatement().executeQuery("SELECT name FROM customers WHERE id = 3"));
            Savepoint savepoint = connection.setSavepoint("s");
            failing("in a block", () -> connection.createStatement().execute("SELECT 1 / 0"));
            connection.rollback(savepoint);
            connection.commit();
            for (int level : new int[] {Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE}) {
                connection.setTransactionIsolation(level);
                rows("level", connection.createStatement().executeQuery("SHOW transaction_isolation"));
                connection.rollback();
            }
        }
        // write skew, and the retry on 40001
        try (Connection a = connect(); Connection b = connect()) {
            for (Connection one : new Connection[] {a, b}) {
                one.setAutoCommit(false);
                one.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            }
            for (int attempt = 0;; attempt++) {
                try {
                    rows("sum", a.createStatement().executeQuery("SELECT sum(total) FROM orders WHERE customer_id = 3"));
                    if (attempt == 0) {
                        rows("sum", b.createStatement().executeQuery("SELECT sum(total) FROM orders WHERE customer_id = 4"));
                        b.createStatement().executeUpdate("UPDATE orders SET total = total + 1 WHERE customer_id = 3");
                        a.createStatement().executeUpdate("UPDATE orders SET total = total + 1 WHERE customer_id = 4");
                        b.commit();
                    } else {
                        a.createStatement().executeUpdate("UPDATE orders SET total = total + 1 WHERE customer_id = 4");
                    }
                    a.commit();
                    System.out.println("done at attempt " + attempt);
                    break;
                } catch (SQLException error) {
                    System.out.println("retry " + error.getSQLState());
                    a.rollback();
                }
            }
        }
    }

    static void copies() throws Exception {
        try (Connection connection = connect()) {
            CopyManager copy = new CopyManager(connection.unwrap(org.postgresql.core.BaseConnection.class));
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 30000; n++) {
                lines.append(n).append("\tline ").append(n).append('\n');
            }
            System.out.println(copy.copyIn("COPY journal FROM STDIN", new StringReader(lines.toString())));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            System.out.println(copy.copyOut("COPY (SELECT * FROM journal WHERE note LIKE 'line%' ORDER BY at_step) TO STDOUT WITH CSV", out));
            System.out.println(out.size() + " " + Arrays.hashCode(out.toByteArray()));
            out.reset();
            copy.copyOut("COPY kinds TO STDOUT (FORMAT binary)", out);
            System.out.println(out.size() + " " + Arrays.hashCode(out.toByteArray()));
            failing("bad copy", () -> copy.copyIn("COPY journal FROM STDIN", new ByteArrayInputStream("x\ty\n".getBytes(StandardCharsets.UTF_8))));
            failing("not a copy", () -> copy.copyIn("SELECT 1", new StringReader("")));
            org.postgresql.copy.CopyIn given = copy.copyIn("COPY journal FROM STDIN");
            given.writeToCopy("1\tgiven up\n".getBytes(StandardCharsets.UTF_8), 0, 11);
            given.cancelCopy();
            rows("count", connection.createStatement().executeQuery("SELECT count(*) FROM journal WHERE note = 'given up' OR note LIKE 'line%'"));

            connection.setAutoCommit(false);
            LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = objects.createLO(LargeObjectManager.READWRITE);
            LargeObject object = objects.open(oid, LargeObjectManager.WRITE);
            byte[] block = new byte[100000];
            Arrays.fill(block, (byte) 'x');
            for (int n = 0; n < 20; n++) {
                object.write(block);
            }
            object.close();
            object = objects.open(oid, LargeObjectManager.READ);
            object.seek(1999990);
            System.out.println(new String(object.read(100), StandardCharsets.UTF_8) + " " + object.size());
            object.close();
            objects.delete(oid);
            connection.commit();
            failing("no such object", () -> objects.open(1, LargeObjectManager.READ));
            connection.rollback();
        }
    }

    static void events() throws Exception {
        try (Connection listener = connect(); Connection other = connect()) {
            listener.createStatement().execute("LISTEN news");
            other.createStatement().execute("SELECT pg_notify('news', 'item ' || n) FROM generate_series(1, 10) n");
            PGConnection notified = listener.unwrap(PGConnection.class);
            int many = 0;
            while (many < 10) {
                PGNotification[] some = notified.getNotifications(60000);
                for (PGNotification one : some) {
                    System.out.println(one.getName() + " " + one.getParameter());
                    many++;
                }
            }
            String sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(100)%' AND pid <> pg_backend_pid() AND datname = current_database()";
            Statement asleep = listener.createStatement();
            Thread canceller = new Thread(() -> {
                try {
                    while (true) {
                        ResultSet results = other.createStatement().executeQuery(sleeping);
                        results.next();
                        if (results.getInt(1) > 0) {
                            break;
                        }
                        Thread.sleep(20);
                    }
                    asleep.cancel();
                } catch (Exception error) {
                    System.out.println(error);
                }
            });
            canceller.start();
            failing("cancelled", () -> asleep.execute("SELECT pg_sleep(100)"));
            canceller.join();
            asleep.setQueryTimeout(1);
            failing("time-out", () -> asleep.execute("SELECT pg_sleep(100)"));
            asleep.setQueryTimeout(0);
            Thread.sleep(200);
            rows("goes on", asleep.executeQuery("SELECT 'goes on'"));
            other.createStatement().execute("SELECT pg_terminate_backend(" + notified.getBackendPID() + ")");
            failing("terminated", () -> asleep.execute("SELECT 1"));
            System.out.println(listener.isValid(5) + " " + other.isValid(5));
        }
    }

    public static void main(String[] names) throws Exception {
        for (String name : names) {
            switch (name) {
                case "queries" -> queries();
                case "prepared" -> prepared();
                case "batches" -> batches();
                case "portals" -> portals();
                case "copies" -> copies();
                case "events" -> events();
                default -> throw new IllegalArgumentException(name);
            }
        }
    }
}
