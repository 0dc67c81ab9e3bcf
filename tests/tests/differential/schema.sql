CREATE TABLE t (id int PRIMARY KEY, k int, v text);
CREATE SEQUENCE s START 1000;
CREATE ROLE plain;
GRANT SELECT ON t TO plain;

CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE 'k of % is %', NEW.id, NEW.k;
  RETURN NEW;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.k > 2) EXECUTE FUNCTION tell();

CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$
BEGIN
  UPDATE t SET k = k + 10 WHERE id = 1;
  COMMIT;
  UPDATE t SET k = k + 10 WHERE id = 2;
END $$;

CREATE FUNCTION reset() RETURNS void LANGUAGE plpgsql SET client_min_messages = error AS $$
BEGIN
  DROP TABLE IF EXISTS u;
  TRUNCATE t;
  INSERT INTO t SELECT g, g % 3, repeat('v', g) FROM generate_series(1, 6) g;
  ALTER SEQUENCE s RESTART;
END $$;
